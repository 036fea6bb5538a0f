"""What the planner, the store, the driver and `bench report` cost as the number of trials grows.

    python -m tests.performance.scale [--sizes 100 1000 10000] [--rows 1000] [--variants 20] [--ray 20 200]

Every stage runs in a process of its own, so that its peak memory is its own:

- plan     load the sweep and plan its trials
- store    write the plan and run every trial in this process with a fake body, which writes a curve, an evaluation
           and a status as a real one does; progress is shown and statuses are settled, as `bench run` does
- again    what `bench run` on the finished run asks first: which trials are left
- status   `bench status`
- report   `bench report`
- ray      the same through Ray Tune, an actor a trial, whose body writes a point and loads no model: what is left is
           what an actor costs, and what the driver spends on it

Seconds are the wall's, and CPU seconds those of the process itself; one thread of arithmetic.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
METRICS = ("reward", "reward/other", "gold", "diversity", "drift")
PROMPTS = {"train": [f"a {n} cat" for n in range(16)], "heldout": [f"a {n} dog" for n in range(4)]}
IMAGES = 2
ROWS_A_POINT = len(METRICS) * sum(map(len, PROMPTS.values())) * IMAGES
STAGES = ("plan", "store", "again", "status", "report")

SWEEP = """\
schema: 1
name: scale
model: {model}
reward: colourfulness
prompts: {prompts}
sampler: {{steps: 2}}
methods: {methods}
seeds: {seeds}
budget: {{reward_queries: 1024}}
evaluate: {{every: 256, images: {images}}}
target: 1.0
"""


# -- what is measured ------------------------------------------------------------------------------------------


def write_sweep(folder: Path, trials: int, variants: int) -> Path:
    """A sweep of `trials` trials: `base`, and grids of learning rates over three methods, as many seeds as it takes."""
    from models.tiny import write_tiny_pipeline

    model = folder / "model"
    if not model.exists():
        write_tiny_pipeline(model, "epsilon")
    variants = min(variants, trials)
    names = ("alignprop", "ddpo", "rwr")
    counts = [(variants - 1 + place) // len(names) for place in range(len(names))]
    rates = [[round(1e-5 * (n + 1), 8) for n in range(count)] for count in counts]
    methods: list[dict[str, Any]] = [{"name": "base"}]
    methods += [{"name": n, "grid": {"learning_rate": r}} for n, r in zip(names, rates, strict=True) if r]
    path = folder / "scale.yaml"
    text = SWEEP.format(
        model=model,
        prompts=json.dumps(PROMPTS),
        methods=json.dumps(methods),
        seeds=list(range(trials // variants)),
        images=IMAGES,
    )
    path.write_text(text, encoding="utf-8")
    return path


def fake_trial(rows: int) -> Callable[..., None]:
    """A trial's body that writes `rows` rows of evaluation, in points of `ROWS_A_POINT`, and no checkpoint."""
    from models.meter import Ledger

    points = max(2, round(rows / ROWS_A_POINT))
    kept = [(s, m, p, i) for s in PROMPTS for m in METRICS for p in PROMPTS[s] for i in range(IMAGES)]
    columns = dict(zip(("split", "metric", "prompt", "sample"), zip(*kept, strict=True), strict=True))
    frame = pd.DataFrame(columns)
    groups = frame.groupby(["split", "metric"], sort=False).indices

    def body(trial: Any, folder: Any) -> None:
        rng = np.random.default_rng([trial.seed, int(trial.identity[:8], 16)])
        speed = 0.0 if trial.method == "base" else rng.uniform(0.5, 2.0)
        written = []
        for point in range(1 if trial.method == "base" else points):
            share = point / (points - 1)
            values = speed * share + rng.normal(0, 0.3, len(frame))
            written.append(frame.assign(value=values, point=point))
            means = {s: {m: float(values[groups[s, m]].mean()) for m in METRICS} for s in PROMPTS}
            spent = round(trial.budget.limit * share)
            axes = Ledger(steps=spent // 8, updates=spent // 8, reward_queries=spent, flops=spent * 10**9).as_axes()
            folder.append_point(point, {**axes, "train_seconds": spent * 0.1, "nfe": 5 * spent}, means)
            folder.heartbeat(share, means["train"]["reward"])
        # At once: a real trial appends as it goes, but hours pass between two points of one.
        folder.write_evaluation(pd.concat(written, ignore_index=True))

    return body


def plan_stage(folder: Path) -> dict[str, float]:
    from bench.plan.planner import Planner
    from bench.sweep.load import load_sweep

    return {"trials": len(Planner(load_sweep(folder / "scale.yaml")).trials())}


def store_stage(folder: Path, rows: int) -> dict[str, float]:
    """The trials one after another in this process."""
    import bench.run.worker
    from bench.run.executors import inline

    bench.run.worker.run_trial = fake_trial(rows)  # type: ignore[assignment]
    return executed(inline, folder, folder / "run")


def ray_stage(folder: Path, trials: int) -> dict[str, float]:
    """The trials in Ray's actors, which write a status and load neither torch nor a model."""
    from bench.run.executors import ray_tune

    ray_tune._body = actor
    return executed(ray_tune, folder, folder / f"ray-{trials}")


def executed(executor: Any, folder: Path, out: Path) -> dict[str, float]:
    """Writes the plan and runs its trials as `bench run` does, with its progress, by the functions that it calls."""
    from bench.plan.planner import Planner, resolved_sweep
    from bench.run.sweep import execute
    from bench.store.plan_file import describe_run
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import load_sweep

    loaded = load_sweep(folder / "scale.yaml")
    trials = Planner(loaded).trials()
    run = RunFolder(out)
    begun, spent = time.perf_counter(), time.process_time()
    run.write_plan(resolved_sweep(loaded), trials, **describe_run(trials, loaded.sweep, "scale", "fake", 1))
    with contextlib.redirect_stderr(io.StringIO()):
        execute(executor, trials, run, "scale")
    seconds = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - spent}
    done = sum(row.record.status == "done" for row in run.trials())
    if done < len(trials):
        raise SystemExit(f"{done} of {len(trials)} trials are done")
    return seconds


def actor(config: dict[str, Any], run_path: str, **_: str) -> None:
    """What an actor does for one trial here, in the place of `bench.run.executors.ray_tune._body`."""
    from bench.store.run_folder import RunFolder
    from bench.store.trial_folder import TrialFolder

    folder: TrialFolder = RunFolder(Path(run_path)).trial(config["trial"])
    with folder.lock():
        folder.write_status("running")
        folder.append_point(0, {"steps": 0, "reward_queries": 0}, {"train": {"reward": 0.0}})
        folder.write_status("done", seconds=0.0)


def again_stage(folder: Path) -> dict[str, float]:
    from bench.plan.planner import Planner
    from bench.run.pending import trials_to_run
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import load_sweep

    trials = Planner(load_sweep(folder / "scale.yaml")).trials()
    begun, spent = time.perf_counter(), time.process_time()
    left = trials_to_run(trials, RunFolder(folder / "run"))
    return {"left": len(left), "seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - spent}


def command_stage(*arguments: str | Path) -> dict[str, float]:
    from bench.cli import run_command

    with contextlib.redirect_stdout(io.StringIO()):
        code = run_command([str(argument) for argument in arguments])
    if code:
        raise SystemExit(f"bench {' '.join(map(str, arguments))} ended with {code}")
    return {}


def report_stage(folder: Path) -> dict[str, float]:
    found = command_stage("report", folder / "run")
    return {**found, "html_bytes": (folder / "run" / "report" / "report.html").stat().st_size}


# -- processes and the table -----------------------------------------------------------------------------------


def staged(stage: str, folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """One stage in this process: its figures, with what the process spent and its peak memory."""
    begun, spent = time.perf_counter(), time.process_time()
    run = {
        "sweep": lambda: {"bytes": write_sweep(folder, given.sizes[0], given.variants).stat().st_size},
        "plan": lambda: plan_stage(folder),
        "store": lambda: store_stage(folder, given.rows),
        "again": lambda: again_stage(folder),
        "status": lambda: command_stage("status", folder / "run"),
        "report": lambda: report_stage(folder),
        "ray": lambda: ray_stage(folder, given.sizes[0]),
    }[stage]
    found = run()
    peak = peak_memory()
    seconds = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - spent}
    return {"trials": given.sizes[0], **seconds, **found, "peak_bytes": peak}


def peak_memory() -> int:
    """The most this process has had resident, in bytes; `ru_maxrss` counts the parent before the program began."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_a_process(stage: str, folder: Path, size: int, rows: int, variants: int) -> dict[str, Any]:
    """One stage in a fresh process."""
    command = [sys.executable, "-m", "tests.performance.scale", "--stage", stage, "--folder", str(folder)]
    command += ["--sizes", str(size), "--rows", str(rows), "--variants", str(variants)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{stage} over {size} trials ended with {done.returncode}:\n{done.stderr[-2000:]}")
    written = (folder / "run").glob("trials/*/evaluation.parquet")
    rows_written = sum(pq.read_metadata(path).num_rows for path in written)
    return {"stage": stage, "rows": rows_written, **json.loads(done.stdout.splitlines()[-1])}


def line(found: dict[str, Any]) -> str:
    """A line of the table; the last column is of one trial."""
    html = f"{found['html_bytes'] / 1e6:7.1f}" if "html_bytes" in found else f"{'':7}"
    rows = f"{found['rows']:12,d}" if found["stage"] in ("store", "report") else f"{'':12}"
    return (
        f"{found['stage']:8}{found['trials']:8,d}{rows}{found['seconds']:10.2f}{found['cpu_seconds']:10.2f}"
        f"{found['peak_bytes'] / 2**20:10.0f}{html}{1000 * found['seconds'] / found['trials']:12.2f}"
    )


HEAD = (
    f"{'stage':8}{'trials':>8}{'rows':>12}{'seconds':>10}{'CPU s':>10}{'peak MiB':>10}{'HTML MB':>8}{'ms a trial':>11}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory against the number of trials.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1_000, 10_000], help="trials")
    parser.add_argument("--rows", type=int, default=1_200, help="rows of evaluation a trial")
    parser.add_argument("--variants", type=int, default=20, help="the rest are seeds")
    parser.add_argument("--ray", type=int, nargs="*", default=[20, 200], help="trials through Ray; none to leave it")
    parser.add_argument("--folder", type=Path, help="where the runs go, and stay; a temporary folder by default")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--stage", choices=("sweep", *STAGES, "ray"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(staged(given.stage, given.folder, given)))
        return
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        print(HEAD, flush=True)
        for size in given.sizes:
            folder = (given.folder or Path(temporary)).absolute() / f"{size}-{given.rows}-{given.variants}"
            folder.mkdir(parents=True, exist_ok=True)
            in_a_process("sweep", folder, size, given.rows, given.variants)
            for stage in given.stages:
                found.append(in_a_process(stage, folder, size, given.rows, given.variants))
                print(line(found[-1]), flush=True)
        for size in given.ray:
            folder = (given.folder or Path(temporary)).absolute() / f"ray-{size}"
            folder.mkdir(parents=True, exist_ok=True)
            in_a_process("sweep", folder, size, 0, 1)
            found.append(in_a_process("ray", folder, size, 0, 1))
            print(line(found[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
