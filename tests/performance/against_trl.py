"""One AlignProp update and one DDPO epoch of ours beside TRL 0.23.1's.

    python -m tests.performance.against_trl [--device cuda] [--rounds 9] [--steps 5] [--guidance 1] [--json FILE]

Same weights, adapter, prompts, reward, sampler and kept steps; one process, the contestants taking turns within each
round, so that whatever else the machine does falls on all of them. Seconds are the process's own CPU time, which with
one thread is the wall's less what other processes took; on a GPU, which should then do nothing else, the wall's,
synchronised. A ratio is TRL's seconds over ours in the same round; the
median over the rounds is what counts. Every first step is a warm-up: the meter counts FLOPs in it.

Memory is measured apart, each contestant alone in a fresh process: the peak of the resident set over three steps,
above what was resident once the method was built (on a GPU, of allocated memory). That contains what the allocator
keeps back, as a machine sees it, and not the libraries, of which TRL's are larger.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.sweep import prompts as prompt_sets
from methods import registry
from methods.base import Method
from methods.optimiser import LocalOptimiser
from models.adapter import AdapterSettings
from models.families.stable_diffusion import StableDiffusion
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from rewards.registry import build as build_reward

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shape:
    """What is compared; the defaults are the embedded aesthetic sweep's, with its mean number of kept steps."""

    steps: int = 5
    keep: int = 3
    guidance: float = 1.0
    eta: float = 1.0
    batch: int = 16  # images of an AlignProp update
    rollout: int = 64  # images of a DDPO epoch, eight a prompt
    updates: int = 4  # on a rollout
    rank: int = 8
    device: str = "cpu"


EXAMPLE = (24, 8)
"""Images of an epoch, and updates on them, in TRL's own example of DDPO (examples/scripts/ddpo.py): 3 images each."""


@dataclass(frozen=True)
class Contestant:
    """A method with settings, under the name that the table gives it."""

    family: str
    label: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A line of the table; ratios are TRL's seconds over this contestant's, round by round."""

    family: str
    label: str
    seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    peak_bytes: int
    nfe: int


def contestants(shape: Shape) -> list[Contestant]:
    """TRL's first in each family."""
    kept = {"batch_size": shape.batch, "truncation": "fixed", "keep_steps": shape.keep}
    return [
        Contestant("alignprop", "TRL (recomputes always)", "trl-alignprop", kept),
        *(
            Contestant("alignprop", f"ours, checkpointing {level}", "alignprop", {**kept, "checkpointing": level})
            for level in ("step", "none", "auto")
        ),
        *_ddpo("ddpo", shape.rollout, shape.updates, shape.steps),
        *_ddpo("ddpo-small", *EXAMPLE, shape.steps),
    ]


def _ddpo(family: str, rollout: int, updates: int, steps: int) -> list[Contestant]:
    """An epoch of `rollout` images, eight a prompt.

    TRL's trained batch is a whole update's images, at one timestep. It samples at most as many images at once as our
    largest micro-batch, which cuts our sampling too: the smaller ones are slower at that as well.
    """
    epoch = {"prompts_per_rollout": rollout // 8, "images_per_prompt": 8, "updates_per_rollout": updates}
    # TRL trains on every step, from an x_T for each image.
    alike = {"timestep_fraction": 1.0, "timestep_choice": "random", "initial_noise": "independent"}
    rows = rollout // updates
    return [
        Contestant(
            family,
            f"TRL ({rows} images, a timestep at a time)",
            "trl-ddpo",
            {**epoch, "micro_batch": rows * steps},
        ),
        *(
            Contestant(family, f"ours, {size} rows at a time", "ddpo", {**epoch, **alike, "micro_batch": size})
            for size in (rows, 2 * rows, rows * steps)
        ),
    ]


def build(contestant: Contestant, shape: Shape) -> tuple[Method, list[str]]:
    """The method on the embedded model, and the prompts of a step."""
    cls = registry.load(contestant.method)
    settings = cls.Settings(**contestant.settings)
    meter = Meter(shape.device)
    sampler = SamplerSettings(shape.steps, shape.guidance, shape.eta)
    adapter = AdapterSettings(rank=shape.rank)
    family = StableDiffusion.load(str(ROOT / "models" / "emoji" / "v1"), shape.device)
    if cls.own_trainer:  # TRL as its users have it
        family.vae.to(memory_format=torch.contiguous_format)
    policy = Policy(family, sampler, meter, adapter)
    reward = build_reward("emoji-aesthetic").to(shape.device)
    method = cls(
        settings,
        policy,
        lambda images, prompts: meter.count_reward(images, lambda batch: reward(batch, prompts), reward.name),
        LocalOptimiser(policy.trainable_parameters(), settings),  # type: ignore[arg-type]  # a peer ignores it
        SeedStream(0),
    )
    animals = prompt_sets.read("animals", ROOT)
    policy.encode([*animals, ""])  # a trial does so once before it begins
    return method, list(animals[: cls.prompts_per_step(settings)])


def seconds_now(device: str) -> float:
    """A clock whose differences are the seconds of a contestant's own work (see the module's text)."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(shape: Shape, rounds: int) -> list[tuple[Contestant, list[float], int]]:
    """Seconds of each contestant's step in each round, and a step's denoiser rows."""
    entries = [(contestant, *build(contestant, shape)) for contestant in contestants(shape)]
    seconds: list[list[float]] = [[] for _ in entries]
    rows = [0] * len(entries)
    for turn in range(rounds + 1):
        for index, (_, method, prompts) in enumerate(entries):
            before = method.policy.meter.ledger.nfe
            begun = seconds_now(shape.device)
            method.step(prompts)
            if turn:
                seconds[index].append(seconds_now(shape.device) - begun)
            rows[index] = method.policy.meter.ledger.nfe - before
    return [(contestant, times, nfe) for (contestant, _, _), times, nfe in zip(entries, seconds, rows, strict=True)]


def peak_of(index: int, shape: Shape) -> int:
    """Bytes above the built method at the peak of three steps; to be called in a process of its own."""
    method, prompts = build(contestants(shape)[index], shape)
    on_cpu = shape.device == "cpu"
    resident = psutil.Process().memory_info().rss if on_cpu else torch.cuda.memory_allocated()
    method.policy.meter.reset_peak_memory()
    for _ in range(3):
        method.step(prompts)
    return method.policy.meter.read_peak_memory() - resident


def peak_in_a_process(index: int, shape: Shape) -> int:
    command = [sys.executable, "-m", "tests.performance.against_trl", "--peak-of", str(index), *arguments(shape)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return int(output.split()[-1])


def arguments(shape: Shape) -> list[str]:
    return [part for name, value in asdict(shape).items() for part in (f"--{name}", str(value))]


def compare(shape: Shape, rounds: int) -> list[Result]:
    """The whole table."""
    results = []
    theirs: dict[str, list[float]] = {}
    for index, (contestant, times, nfe) in enumerate(timed(shape, rounds)):
        reference = theirs.setdefault(contestant.family, times)  # TRL comes first
        ratios = [a / b for a, b in zip(reference, times, strict=True)]
        results.append(
            Result(
                contestant.family,
                contestant.label,
                statistics.median(times),
                statistics.median(ratios),
                min(ratios),
                max(ratios),
                peak_in_a_process(index, shape),
                nfe,
            )
        )
    return results


def table(results: list[Result]) -> str:
    lines = [f"{'':12}{'':40}{'seconds':>8}  {'times as fast as TRL':22}{'peak MiB':>9}{'NFE':>8}"]
    for line in results:
        ratio = f"{line.ratio:.2f} ({line.ratio_low:.2f} to {line.ratio_high:.2f})"
        lines.append(
            f"{line.family:12}{line.label:40}{line.seconds:8.3f}  {ratio:22}{line.peak_bytes / 2**20:9.0f}{line.nfe:8d}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="One update of ours beside TRL's.")
    for name, value in asdict(Shape()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    rounds, target, index = given.pop("rounds"), given.pop("json"), given.pop("peak_of")
    shape = Shape(**given)
    if shape.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {shape.device}: there is no CUDA device on this machine")
    torch.set_num_threads(1)
    if index is not None:
        print(peak_of(index, shape))
        return
    results = compare(shape, rounds)
    print(table(results))
    if target:
        record = {"shape": asdict(shape), "rounds": rounds, "results": [asdict(result) for result in results]}
        target.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
