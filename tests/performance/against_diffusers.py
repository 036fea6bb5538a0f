"""Sampling and decoding of ours beside diffusers' pipeline, on the embedded model with an adapter in both.

    python -m tests.performance.against_diffusers [--rounds 9]

Same weights, prompts, x_T, steps and guidance; both take turns within a round, and the images of the two are compared
first. Seconds are the process's own CPU time on one thread, a ratio is diffusers' over ours in one round, and the
median over the rounds is what counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig
from torch import Tensor

from bench.sweep import prompts as prompt_sets
from models.adapter import AdapterSettings
from models.choices import DEFAULT_TARGETS
from models.families.stable_diffusion import StableDiffusion
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "models" / "emoji" / "v1")
RANK = 8
SAME = 1e-4
"""The largest difference of two pixels in [0, 1] that is rounding."""

SHAPES = ((64, 5, 1.0), (64, 10, 1.0), (32, 20, 2.0))
"""Images, steps and guidance: of a rollout, of the aesthetic sweep's evaluation, and of a guided evaluation."""


def samplers(images: int, steps: int, guidance: float) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Functions that sample the same images `[B, 3, H, W]` by our policy and by diffusers' pipeline, with eta 0."""
    adapter = AdapterSettings(rank=RANK)
    policy = Policy(StableDiffusion.load(MODEL), SamplerSettings(steps, guidance, 0.0), Meter(), adapter)
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(DEFAULT_TARGETS)))
    animals = prompt_sets.read("animals", ROOT)
    prompts = [animals[index % len(animals)] for index in range(images)]
    noise = SeedStream(0).noise("start", 0, -1, range(images), policy.state_shape)

    @torch.no_grad()
    def ours() -> Tensor:
        return policy.decode(policy.sample(policy.start(noise), policy.encode(prompts), lambda key: noise))

    @torch.no_grad()
    def theirs() -> Tensor:
        return pipeline(
            prompts, num_inference_steps=steps, guidance_scale=guidance, latents=noise.clone(), output_type="pt"
        ).images

    return ours, theirs


def seconds(sample: Callable[[], Tensor]) -> float:
    begun = time.process_time()
    sample()
    return time.process_time() - begun


def compare(images: int, steps: int, guidance: float, rounds: int) -> tuple[float, list[float], list[float]]:
    """The largest difference of two pixels, our seconds in each round, and diffusers' over ours."""
    ours, theirs = samplers(images, steps, guidance)
    apart = float((ours() - theirs()).abs().max())
    times = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    return apart, [own for _, own in times], [other / own for other, own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description="Sampling of ours beside diffusers' pipeline.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'images':>6} {'steps':>5} {'guidance':>8} {'seconds':>8}  {'times as fast as diffusers':28}{'apart':>8}")
    for images, steps, guidance in SHAPES:
        apart, own, ratios = compare(images, steps, guidance, rounds)
        if not apart < SAME:
            raise SystemExit(f"the images of the two differ by {apart:g}")
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{images:6d} {steps:5d} {guidance:8g} {statistics.median(own):8.3f}  {ratio:28}{apart:8.1e}")


if __name__ == "__main__":
    main()
