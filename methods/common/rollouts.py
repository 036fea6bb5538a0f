"""Draws and scores samples of the present policy without a gradient, from which value-based methods learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Method, micro_batches
from models.noise import keyed_generator


@dataclass(frozen=True)
class Samples:
    """Final states that a method drew, with their rewards.

    Attributes:
        prompts: B prompts.
        latents: x_0 `[B, ...]` (its name is a key in checkpoints).
        rewards: `[B]`; raw scores of the reward, unless a method has replaced them.
    """

    prompts: list[str]
    latents: Tensor
    rewards: Tensor

    def at(self, rows: list[int]) -> "Samples":
        """The samples of these numbers, in their order; a number may occur several times."""
        return Samples([self.prompts[row] for row in rows], self.latents[rows], self.rewards[rows])


def join(rounds: Sequence[Samples]) -> Samples:
    """The samples of several rounds, at least one, in their order."""
    return Samples(
        [prompt for samples in rounds for prompt in samples.prompts],
        torch.cat([samples.latents for samples in rounds]),
        torch.cat([samples.rewards for samples in rounds]),
    )


@torch.no_grad()
def collect(method: Method, prompts: list[str]) -> Samples:
    """Draws one image for each prompt with the method's training sampler, and scores it."""
    policy = method.policy
    latents, rewards = [], []
    for rows in micro_batches(len(prompts), method.settings.micro_batch):
        noise = method.rollout_noise(range(rows.start, rows.stop))
        latents.append(policy.sample(policy.start(noise(-1)), policy.encode(prompts[rows]), noise))
        rewards.append(method.reward(policy.decode(latents[-1]), prompts[rows]))
    return Samples(prompts, torch.cat(latents), torch.cat(rewards))


def draw_batch(method: Method, purpose: str, size: int, batch: int) -> list[int]:
    """Draws `batch` of `size` entries in random order; a batch larger than `size` repeats entries evenly.

    Args:
        method: the method whose random numbers are used, at its present iteration.
        purpose: name of the draw; draws of one iteration with different names differ.
        size: number of entries.
        batch: number of draws.

    Returns:
        `batch` distinct numbers. Number n stands for entry n mod `size`, so repeated entries can have different noise.
    """
    repeats = -(-batch // size)
    return method.seeds.permutation(purpose, method.iteration, size * repeats)[:batch]


def draw_in_proportion(method: Method, purpose: str, weights: Tensor, draws: int) -> list[int]:
    """Draws entries in proportion to their weights, by systematic resampling, and returns them in random order.

    Systematic resampling (Carpenter, Clifford, Fearnhead 1999, "Improved particle filter for nonlinear problems") lays
    the weights end to end and takes the entries at `draws` equally spaced places behind one random start. An entry's
    expected number of draws is n_i = draws · w_i / Σw, and its number is n_i rounded down or up: equal weights repeat
    every entry equally often, and a weight of 0 is never drawn.

    Args:
        method: the method whose random numbers are used, at its present iteration.
        purpose: name of the draw; draws of one iteration with different names differ.
        weights: at least 0, with a sum above 0: `[N]`.
        draws: number of draws.

    Returns:
        `draws` numbers of entries.
    """
    start = torch.rand((), dtype=torch.float64, generator=keyed_generator(method.seeds.seed, purpose, method.iteration))
    ends = weights.double().cpu().cumsum(0)
    places = (torch.arange(draws, dtype=torch.float64) + start) / draws * ends[-1]
    drawn = torch.searchsorted(ends, places, right=True)
    # Rounding may put the last place on the very end, behind entries of weight 0.
    drawn = drawn.clamp(max=int(weights.nonzero().max()))
    return [int(drawn[place]) for place in method.seeds.permutation(f"{purpose}/order", method.iteration, draws)]
