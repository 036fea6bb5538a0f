"""What a GPU makes of the harness: its tests, its numbers, its speed and its memory.

    python -m tests.performance.on_gpu --out build/gpu [--size tiny] [PIECE ...]

The pieces take twelve minutes together on an H200. Each is a process of its own with a time limit, and writes
OUT/PIECE.json as it goes, so that what was measured before a failure stays; a failure stops no other piece, and makes
the exit code 1. Neither Ray nor DeepSpeed is needed; `gpu-wheels.txt` lists what is, beside torch.

    tests       the tests marked `gpu`
    quickstart  sweeps/quickstart.yaml on the GPU, twice, and on the CPU: are the curves alike, and the two the same?
    sd-N        Stable Diffusion 1.5's architecture at 512 pixels with random weights, bf16, LoRA of rank 4, T = 50, N
                images at once: AlignProp, an epoch of DDPO and sampling, beside TRL 0.23.1 where it is installed
    plan        adds to the JSON of sd-N what `bench plan --memory` predicts; needs no GPU

Seconds are the median of a few steps after one that warms up, synchronised. The floor is the time that the FLOPs of a
step, without what checkpointing computes again, take at the rate of a large matrix product in bf16, which is measured
in the same process. Peak memory is the allocator's, above what an earlier contestant left. With `--size tiny` a random
model of 20,000 weights stands in for Stable Diffusion, and the CPU for the GPU.
"""

import argparse
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from bench.build.objects import set_arithmetic
from bench.plan.memory.prediction import build_rewards, predict
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import Lora, Sampler
from methods import registry
from methods.base import Method
from methods.common.backprop import LEVELS
from methods.optimiser import LocalOptimiser
from methods.peers.trl_alignprop import TRLAlignProp
from methods.peers.trl_ddpo import TRLDDPO
from methods.peers.trl_method import TRLMethod
from models.adapter import AdapterSettings
from models.architectures import SD15
from models.dry import bare_components
from models.families.stable_diffusion import StableDiffusion
from models.loading import Components, load_components
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from models.tiny import write_tiny_pipeline
from rewards.registry import build as build_reward
from tests.bench.run.test_trial import make_trial

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
SD15_NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
REWARD = "emoji-aesthetic"  # its cost is nothing beside that of an image of 512 pixels
RANK = 4
LIMITS = {"tests": 90, "quickstart": 150, "sd-1": 90, "sd-4": 120, "sd-16": 240, "plan": 600}
"""Seconds that a piece may take. `plan` needs no GPU and can be run elsewhere, on the others' output."""


@dataclass(frozen=True)
class Size:
    """How large the pieces are.

    Attributes:
        device: where they run.
        product: rows of the square matrices whose product is timed.
        steps: T.
        shown: K, the numbers of kept steps.
        quickstart: changes of the quickstart's sweep.
        pieces: the pieces that are run unless others are named.
    """

    device: str
    product: int
    steps: int
    shown: tuple[int, ...]
    quickstart: tuple[str, ...]
    pieces: tuple[str, ...]


SIZES = {
    "full": Size("cuda", 8192, 50, (10, 1), (), tuple(LIMITS)),
    "tiny": Size(
        "cpu",
        128,
        3,
        (2,),
        (
            "budget.reward_queries=4",
            "methods.alignprop.settings.batch_size=4",
            "evaluate={every: 4, images: 1, sampler: {steps: 2, eta: 0}, gold: emoji-aesthetic-gold}",
            "prompts={train: [a cat, a dog]}",
        ),
        ("tests", "quickstart", "sd-2", "plan"),
    ),
}


@dataclass(frozen=True)
class Contestant:
    """A method with settings; `sampling` stands for drawing and decoding images."""

    label: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    rounds: int = 2


# -- the pieces --------------------------------------------------------------------------------------------------------


def tests(size: Size, out: Callable[[dict], None]) -> bool:
    """The tests marked `gpu`."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, capture_output=True, text=True
        )
        counts = ElementTree.parse(report).getroot()[0].attrib if report.exists() else {}
    names = ("tests", "failures", "errors", "skipped")
    out(
        {
            "exit_code": done.returncode,
            **{name: int(counts.get(name, 0)) for name in names},
            "output": (done.stdout + done.stderr)[-4000:],
        }
    )
    return done.returncode == 0


def quickstart(size: Size, out: Callable[[dict], None]) -> bool:
    """The quickstart on the CPU and twice on the device at the same time; twice in all where that is the CPU."""
    gpus = {"cpu": 0, "first": 1, "second": 1} if size.device == "cuda" else {"cpu": 0, "first": 0}
    again = "second" if "second" in gpus else "cpu"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        processes = {}
        for name, count in gpus.items():
            changes = [part for change in (f"resources.gpus={count}", *size.quickstart) for part in ("--set", change)]
            command = ["run", "sweeps/quickstart.yaml", "--executor", "inline", "--out", f"{folder}/{name}", *changes]
            log = running.enter_context((Path(folder) / f"{name}.log").open("w"))
            started = subprocess.Popen([sys.executable, "-c", BENCH, *command], cwd=ROOT, stdout=log, stderr=log)
            processes[name] = running.enter_context(started)
        for process in processes.values():
            process.wait()
        errors = {name: (Path(folder) / f"{name}.log").read_text()[-2000:] for name in processes}
        failed = {name: errors[name] for name, process in processes.items() if process.returncode}
        curves = {} if failed else {name: curves_of(Path(folder) / name) for name in gpus}
    if failed:
        out({"failed": failed})
        return False
    rewards = {name: [point["reward"] for point in curve["alignprop"]] for name, curve in curves.items()}
    untrained, gained = rewards["cpu"][0], rewards["cpu"][-1] - rewards["cpu"][0]
    found = {
        "curves": curves,
        "untrained_difference": rewards["first"][0] - untrained,
        "gain_over_the_cpus": (rewards["first"][-1] - rewards["first"][0]) / gained,
        "repeats_bitwise": without_seconds(curves["first"]) == without_seconds(curves[again]),
    }
    out(found)
    alike = abs(found["untrained_difference"]) < 0.01 and 0.75 < found["gain_over_the_cpus"] < 1.25
    return alike and found["repeats_bitwise"]


BENCH = "from bench.cli import main; main()"


def curves_of(run: Path) -> dict[str, list[dict[str, float]]]:
    """Variant -> the points of its trial: reward, gold, seconds of training and peak memory."""
    curves = {}
    for path in sorted((run / "trials").iterdir()):
        curves[path.name.partition("-s")[0]] = [
            {
                "reward": point.values["train"]["reward"],
                "gold": point.values["train"]["gold"],
                "train_seconds": point.axes["train_seconds"],
                "peak_memory_gib": point.axes["peak_memory_bytes"] / GIB,
            }
            for point in TrialFolder(path).read_curve()
        ]
    return curves


def without_seconds(curves: dict[str, list[dict[str, float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(point["reward"], point["gold"]) for point in curve] for name, curve in curves.items()}


def speed(size: Size, images: int, out: Callable[[dict], None]) -> bool:
    """Seconds, their floor and the memory of each contestant on `images` images at once."""
    set_arithmetic("bf16")
    rate = product_rate(size)
    record: dict[str, Any] = {
        "images": images,
        "product_tflops": rate / 1e12,
        "torch": torch.__version__,
        "trl": "beside ours" if find_spec("trl") else "not installed, so its rows are left out",
        "results": [],
    }
    if size.device == "cuda":
        record["gpu"] = torch.cuda.get_device_name()
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_tiny_pipeline(Path(folder) / "tiny")
        for contestant in contestants(size, images):
            try:
                measured = measure(contestant, size, images, tiny, rate)
            except Exception as error:  # the others are measured all the same
                measured, fine = {"error": f"{type(error).__name__}: {error}"}, False
            record["results"].append({"label": contestant.label, **asdict(contestant), **measured})
            out(record)
            free()
    return fine


def plan(size: Size, output: Path, out: Callable[[dict], None]) -> bool:
    """Adds to what was measured the peak that the plan predicts for the level of checkpointing that was used."""
    rows: dict[str, list[float | None]] = {}
    measured = sorted(output.glob("sd-*.json"))
    if not measured:
        print(f"plan: there is no sd-N.json in {output}; run such a piece first", file=sys.stderr)
        return False
    with tempfile.TemporaryDirectory() as folder:
        model = SD15_NAME if size.device == "cuda" else str(write_tiny_pipeline(Path(folder) / "tiny"))
        for path in measured:
            record = json.loads(path.read_text())
            for result in record["results"]:
                if "peak_gib" not in result or result["method"] not in ("alignprop", "ddpo"):
                    continue
                settings = result["settings"]
                if settings.get("truncation") == "uniform":
                    continue  # the plan's peak is that of the largest K
                if "level" in result:
                    settings = settings | {"checkpointing": result["level"]}
                result["predicted_gib"] = predicted(result["method"], settings, model, size.steps)
                rows[f"{path.stem}: {result['label']}"] = [result["predicted_gib"], result["peak_gib"]]
            path.write_text(json.dumps(record, indent=2) + "\n")
            out({"predicted_and_peak_gib": rows})
    return True


def predicted(method: str, settings: dict[str, Any], model: str, steps: int) -> float | None:
    """GiB of a training step by the plan; None where the plan knows none."""
    trial = make_trial(
        model,
        method,
        REWARD,
        settings=registry.load(method).Settings(**settings).model_dump(mode="json"),
        sampler=Sampler(steps=steps, guidance=1.0, eta=1.0),
        precision="bf16",
        lora=Lora(rank=RANK),
        gold=None,
        prompts_heldout=(),
    )
    memory = predict(trial, build_rewards(trial))
    return memory.training / GIB if memory else None


# -- speed -------------------------------------------------------------------------------------------------------------


def contestants(size: Size, images: int) -> Iterator[Contestant]:
    """Ours before TRL's on the same work; the most wanted first, as the time may end."""
    peers = find_spec("trl") is not None
    for kept in size.shown:
        last = {"batch_size": images, "truncation": "fixed", "keep_steps": kept, "micro_batch": images}
        yield Contestant(f"AlignProp, K = {kept}", "alignprop", last)
        if peers:
            yield Contestant(f"AlignProp, K = {kept}, TRL", "trl-alignprop", last)
    recomputing = {"batch_size": images, "truncation": "fixed", "keep_steps": size.shown[0], "micro_batch": images}
    label = f"AlignProp, K = {size.shown[0]}, recomputing as TRL does"
    yield Contestant(label, "alignprop", recomputing | {"checkpointing": "step"}, rounds=1)
    epoch = {"prompts_per_rollout": 1, "images_per_prompt": images, "updates_per_rollout": 1, "micro_batch": images}
    alike = {"timestep_fraction": 1.0, "timestep_choice": "random", "initial_noise": "independent"}
    yield Contestant("DDPO, an epoch", "ddpo", epoch | alike, rounds=1)
    if peers:
        yield Contestant("DDPO, an epoch, TRL", "trl-ddpo", epoch | {"statistics": "batch"}, rounds=1)
    yield Contestant("sampling", "sampling")
    uniform = {"batch_size": images, "truncation": "uniform", "micro_batch": images}
    yield Contestant("AlignProp, K uniform", "alignprop", uniform, rounds=3)


def measure(contestant: Contestant, size: Size, images: int, tiny: Path, rate: float) -> dict[str, Any]:
    """Seconds, floor, rows and peak memory of a contestant's step."""
    held = torch.cuda.memory_allocated() if size.device == "cuda" else 0
    policy = policy_of(size, tiny)
    prompts = ["a cat"] * (1 if contestant.method.endswith("ddpo") else images)
    if contestant.method == "sampling":
        step: Callable[[], Any] = lambda: draw(policy, prompts)  # noqa: E731
    else:
        method = method_of(contestant, policy, size)
        step = lambda: method.step(prompts)  # noqa: E731
    step()
    book = policy.meter.ledger
    policy.meter.reset_peak_memory()
    book.peak_memory_bytes = 0
    rounds = []
    for _ in range(contestant.rounds):
        flops, again, rows, begun = book.flops, book.flops_recompute, book.nfe, seconds_now(size.device)
        metrics = step()
        seconds = seconds_now(size.device) - begun
        needed = (book.flops - flops) - (book.flops_recompute - again)
        rounds.append(
            {
                "seconds": seconds,
                "over_floor": seconds / (needed / rate),
                "tflop": needed / 1e12,
                "recomputed_tflop": (book.flops_recompute - again) / 1e12,
                "nfe": book.nfe - rows,
                "kept_steps": metrics.extra.get("kept_steps") if metrics else None,
            }
        )
    level = metrics.extra.get("checkpointing") if metrics else None
    return {
        "seconds": statistics.median(each["seconds"] for each in rounds),
        "over_floor": statistics.median(each["over_floor"] for each in rounds),
        "peak_gib": (policy.meter.read_peak_memory() - held) / GIB,
        **({} if level is None else {"level": LEVELS[int(level)]}),
        "each": rounds,
    }


def product_rate(size: Size) -> float:
    """FLOP/s of a product of two square matrices in bf16: the median of ten, after three."""
    left, right = (torch.randn(size.product, size.product, device=size.device).bfloat16() for _ in range(2))
    seconds = []
    for _ in range(13):
        begun = seconds_now(size.device)
        left @ right
        seconds.append(seconds_now(size.device) - begun)
    return 2 * size.product**3 / statistics.median(seconds[3:])


def components(size: Size, tiny: Path) -> Components:
    """Stable Diffusion 1.5 with random weights, made on the device; the tiny model where there is none."""
    small = load_components(str(tiny), torch.bfloat16)
    if size.device != "cuda":
        return small
    small.tokenizer.model_max_length = SD15["text_encoder"]["max_position_embeddings"]
    torch.manual_seed(0)
    return replace(bare_components(SD15, torch.bfloat16, size.device), tokenizer=small.tokenizer)


def policy_of(size: Size, tiny: Path) -> Policy:
    """The policy on the device, which samples with eta 1 and without guidance."""
    sampler, adapter = SamplerSettings(size.steps, 1.0, 1.0), AdapterSettings(rank=RANK)
    policy = Policy(StableDiffusion(components(size, tiny), size.device), sampler, Meter(size.device), adapter)
    policy.encode(["a cat", ""])
    return policy


def method_of(contestant: Contestant, policy: Policy, size: Size) -> Method:
    cls = HALF.get(contestant.method) or registry.load(contestant.method)
    settings: Any = cls.Settings(**contestant.settings)
    reward, meter = build_reward(REWARD).freeze().to(size.device), policy.meter
    return cls(
        settings,
        policy,
        lambda images, prompts: meter.count_reward(images, lambda batch: reward(batch, prompts), reward.name),
        LocalOptimiser(policy.trainable_parameters(), settings),
        SeedStream(0),
    )


@torch.no_grad()
def draw(policy: Policy, prompts: list[str]) -> None:
    """Samples an image for each prompt, with eta 0."""
    noise = SeedStream(0).noise("sampling", 0, -1, range(len(prompts)), policy.state_shape)
    sampler = replace(policy.sampler, eta=0.0)
    policy.decode(policy.sample(policy.start(noise), policy.encode(prompts), lambda key: noise, sampler))


class _Half(TRLMethod):
    """A peer under accelerate's autocast to bf16. No evaluation follows that the autocast could change."""

    def mixed_precision(self) -> str:
        return "bf16"


class HalfTRLAlignProp(_Half, TRLAlignProp):
    """TRL's AlignPropTrainer in bf16."""


class HalfTRLDDPO(_Half, TRLDDPO):
    """TRL's DDPOTrainer in bf16."""


HALF = {cls.name: cls for cls in (HalfTRLAlignProp, HalfTRLDDPO)}


def seconds_now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def free() -> None:
    """Frees what the last contestant left, so that the next has the memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- running them ------------------------------------------------------------------------------------------------------


def run_piece(name: str, size: Size, output: Path) -> bool:
    """Runs a piece in this process."""

    def out(record: dict) -> None:
        part = output / f"{name}.json.part"
        part.write_text(json.dumps(record, indent=2) + "\n")
        part.replace(output / f"{name}.json")

    if name.startswith("sd-"):
        return speed(size, int(name.removeprefix("sd-")), out)
    if name == "plan":
        return plan(size, output, out)
    return {"tests": tests, "quickstart": quickstart}[name](size, out)


def run(names: list[str], size: str, output: Path) -> dict[str, str]:
    """Runs pieces one after the other, each in a process of its own; piece -> `good`, or what went wrong."""
    outcomes = {}
    for name in names:
        command = [
            sys.executable,
            "-m",
            "tests.performance.on_gpu",
            "--out",
            str(output),
            "--size",
            size,
            "--here",
            name,
        ]
        begun, limit = time.monotonic(), LIMITS.get(name, 240)
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait(limit)
            outcomes[name] = "good" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the runs that it started
            process.wait()
            outcomes[name] = f"stopped after {limit} seconds"
        print(f"{name}: {outcomes[name]}, {time.monotonic() - begun:.0f} s", flush=True)
    return outcomes


def table(output: Path) -> str:
    """The measured seconds and memory as a table."""
    lines = [f"{'':6}{'':46}{'seconds':>9}{'x floor':>9}{'x TRL':>8}{'GiB':>8}{'plan':>8}"]
    for path in sorted(output.glob("sd-*.json")):
        results = json.loads(path.read_text())["results"]
        seconds = {result["label"]: result.get("seconds") for result in results}
        for result in results:
            if "error" in result:
                lines.append(f"{path.stem:6}{result['label']:46}{result['error'].splitlines()[0][:60]}")
                continue
            peer = seconds.get(f"{result['label'].removesuffix(', recomputing as TRL does')}, TRL")
            ratio = f"{peer / result['seconds']:8.2f}" if peer else f"{'':8}"
            plan = f"{result['predicted_gib']:8.2f}" if result.get("predicted_gib") else ""
            figures = f"{result['seconds']:9.3f}{result['over_floor']:9.2f}{ratio}{result['peak_gib']:8.2f}{plan}"
            lines.append(f"{path.stem:6}{result['label']:46}{figures}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a GPU makes of the harness, in pieces of a few minutes.")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of the JSON (build/gpu)")
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # run one piece in this process
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"of {', '.join(LIMITS)}; all unless named")
    given = parser.parse_args()
    size = SIZES[given.size]
    wrong = [name for name in given.pieces if name not in (*LIMITS, *size.pieces)]
    if wrong:
        parser.error(f"there is no piece {wrong[0]!r}; there are {', '.join(LIMITS)}")
    names = given.pieces or list(size.pieces)
    if size.device == "cuda" and not torch.cuda.is_available() and names != ["plan"]:
        parser.error("there is no CUDA device on this machine; --size tiny tries the pieces on the CPU")
    given.out.mkdir(parents=True, exist_ok=True)
    output = given.out.resolve()
    if given.here:
        logging.disable(logging.WARNING)  # the libraries' notices
        sys.exit(0 if run_piece(names[0], size, output) else 1)
    outcomes = run(names, given.size, output)
    (output / "outcomes.json").write_text(json.dumps(outcomes, indent=2) + "\n")
    print(table(output))
    sys.exit(0 if set(outcomes.values()) == {"good"} else 1)


if __name__ == "__main__":
    main()
