"""`bench doctor`: checks that everything a run needs is installed."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import click

from bench import console, stopping
from bench.commands.shared import RUNS, debug_option, json_option
from bench.errors import BAD_INPUT, GOOD, BenchError, cause_of
from bench.store.files import try_to_write

FONT = "NotoColorEmoji.ttf"


@click.command("doctor", short_help="Check the installation.")
@json_option
@debug_option
def command(as_json: bool) -> int:
    """Check versions, cores, memory, disk, weights and whether Ray starts.

    Exits with 2 if something that a run needs is missing.
    """
    rows = []
    for name, check in CHECKS.items():
        try:
            with stopping.heeded():
                state, text = check()
        except Exception as error:
            state, text = "missing", str(error) if isinstance(error, BenchError) else cause_of(error)
        rows.append({"check": name, "state": state, "found": text})
        if not as_json:
            mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[state]
            console.say(f"{mark}  {name:<10} {text}")
    if as_json:
        console.say_json(rows)
    return BAD_INPUT if any(row["state"] == "missing" for row in rows) else GOOD


def _versions() -> tuple[str, str]:
    from bench.store.provenance import versions

    return "ok", ", ".join(f"{name} {version}" for name, version in versions().items())


def _cores() -> tuple[str, str]:
    from bench.store.provenance import hardware

    found = hardware()
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    gpu = found["gpu"] or "no GPU, none needed"
    return "ok", f"{found['cores']} usable ({found['cpu']}); OMP_NUM_THREADS {threads}; {gpu}"


def _memory() -> tuple[str, str]:
    import psutil

    from bench.store.provenance import usable_cores

    memory = psutil.virtual_memory()
    wanted = 2e9 * usable_cores()
    text = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    return ("ok", text) if memory.available > wanted else ("note", f"{text}; 2 GB for each parallel trial are enough")


def _disk() -> tuple[str, str]:
    folder = RUNS if RUNS.exists() else Path.cwd()
    try:
        try_to_write(folder)
    except OSError as error:
        return "missing", f"runs/ cannot be written ({error.strerror}); use --out with `bench run`"
    free = shutil.disk_usage(folder).free
    return ("ok" if free > 2e9 else "note"), f"{free / 1e9:.1f} GB free for runs/"


def _models() -> tuple[str, str]:
    from bench.build.plugins import embedded_models
    from models.loading import find_model, model_hash

    found = embedded_models()
    if not found:
        return "missing", "no embedded model; models/emoji/ holds the recipe that makes one"
    hashes = [f"{name} {model_hash(find_model(str(folder)))[:12]}" for name, folder in found.items()]
    return "ok", ", ".join(hashes)


def _rewards() -> tuple[str, str]:
    from bench.build.plugins import build_reward, reward_names
    from bench.sweep.schema import RewardSpec

    built, missing = [], []
    for name in reward_names():
        try:
            weights = build_reward(RewardSpec(name=name)).weights_sha256
        except BenchError:
            missing.append(name)
        else:
            built.append(f"{name} {weights[:12]}" if weights else name)
    text = ", ".join(built) + (f"; weights missing: {', '.join(missing)}" if missing else "")
    return ("note" if missing else "ok"), text


def _font() -> tuple[str, str]:
    places = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts"]
    for place in places:
        for path in place.rglob(FONT) if place.is_dir() else ():
            return "ok", str(path)
    return "note", "Noto Color Emoji is not installed; only retraining the embedded model needs it"


def _ray() -> tuple[str, str]:
    from bench.run.executors.ray_tune import start_ray, stop_ray

    begun = time.perf_counter()
    start_ray(threads=1)
    stop_ray()
    return "ok", f"starts and stops in {time.perf_counter() - begun:.0f} s"


CHECKS: dict[str, Callable[[], tuple[str, str]]] = {
    "versions": _versions,
    "cores": _cores,
    "memory": _memory,
    "disk": _disk,
    "models": _models,
    "rewards": _rewards,
    "font": _font,
    "ray": _ray,
}
