"""How long a trial will take here: the rows it plans, times the seconds a row takes in a short real pass.

Assumes that trials have their cores to themselves, as the pass had, and that rows cost alike in any batch.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.build.objects import dtype_of, sampler_settings
from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.plan.estimate import Estimate
from bench.plan.memory.prediction import build_rewards, dry_score

if TYPE_CHECKING:
    from models.policy import Policy

ROWS = 8
LARGEST_ON_CPU = 100_000_000
"""Parameters of the largest denoiser that is tried on a CPU: a pass of a larger one is no short one."""


@dataclass(frozen=True)
class Pace:
    """Seconds a row."""

    prediction: float
    learning: float  # forward and backward
    decoding: float
    scoring: float  # every reward once

    def seconds(self, trial: Trial, cost: Estimate) -> float | None:
        """A trial's, training and evaluation; None where its cost is not known beforehand."""
        cls = load_method(trial.reference)
        if cost.nfe is None or cost.reward_queries is None:
            return None
        gradient = cls.trains and cls.reward_access == "gradient"
        # A backward pass costs about what two forward passes do.
        images = cost.reward_queries * (3 if gradient else 1) + cost.eval_images
        training = cost.nfe * (self.learning / 2 if cls.trains else self.prediction)
        alone = training + cost.eval_nfe * self.prediction + images * (self.decoding + self.scoring)
        return alone / (trial.workers if cls.trains else 1)


def measure(trial: Trial) -> Pace | None:
    """Some rows for real on this machine; None where the model is not in a folder here, or too large for it."""
    import torch

    from models.meter import Meter
    from models.policy import Policy

    if not Path(trial.model).is_dir():
        return None
    on_gpu = trial.gpus > 0 and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    meter, threads = Meter(device), torch.get_num_threads()
    torch.set_num_threads(trial.threads)
    try:
        policy = Policy.load(
            trial.model,
            sampler_settings(trial.sampler),
            meter,
            rank=trial.lora.rank,
            device=device,
            dtype=dtype_of(trial),
        )
        size = sum(parameter.numel() for parameter in policy.unet.parameters())
        if not on_gpu and size > LARGEST_ON_CPU:
            return None
        with meter.paused():
            return _pace(policy, trial)
    finally:
        torch.set_num_threads(threads)


def _pace(policy: "Policy", trial: Trial) -> Pace:
    import torch

    latents = torch.zeros(ROWS, *policy.latent_shape, device=policy.device)
    timesteps = torch.zeros(ROWS, dtype=torch.int64, device=policy.device)
    prompts = [trial.prompts_train[0]] * ROWS
    embeddings = policy.embed(prompts)
    rewards = [reward.to(policy.device) for reward in build_rewards(trial) if dry_score(reward)[1]]

    def predict() -> Any:
        with torch.no_grad():
            return policy.epsilon(latents, timesteps, embeddings)

    def learn() -> Any:
        policy.epsilon(latents, timesteps, embeddings).sum().backward()

    def decode() -> Any:
        with torch.no_grad():
            return policy.decode(latents)

    images = decode()

    def score() -> Any:
        with torch.no_grad():
            return [reward(images, prompts) for reward in rewards]

    found = [_fastest(policy, run) / ROWS for run in (predict, learn, decode, score)]
    return Pace(*found)


def _fastest(policy: "Policy", run: Callable[[], Any], times: int = 3) -> float:
    import torch

    seconds: Sequence[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        run()
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        seconds = [*seconds, time.perf_counter() - begun]
    return min(seconds)
