"""Random numbers keyed by their purpose.

A draw depends on (seed, purpose, step, timestep, sample index) and on nothing else: not on the rank, the position in a
batch or earlier draws. A trial therefore gets the same numbers on one worker and on two, with any micro-batch,
interrupted or not. Numbers are drawn on the CPU in fp32 and moved afterwards.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def keyed_generator(*key: int | str) -> torch.Generator:
    """A new CPU generator, seeded with the BLAKE2b hash of `key`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class SeedStream:
    """Draws keyed random numbers for one seed.

    Args:
        seed: the trial's seed, or `evaluate.seed` for evaluation; any integer.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def noise(self, purpose: str, step: int, timestep: int, samples: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Standard normal noise `[len(samples), *shape]`, fp32 on the CPU, a row for each sample index."""
        return torch.stack(
            [
                torch.randn(tuple(shape), generator=keyed_generator(self.seed, purpose, step, timestep, index))
                for index in samples
            ]
        )

    def integers(self, purpose: str, step: int, samples: Sequence[int], low: int, high: int) -> Tensor:
        """One uniform integer in `[low, high)` for each sample index: `[len(samples)]`, int64."""
        draws = [
            torch.randint(low, high, (), generator=keyed_generator(self.seed, purpose, step, 0, index))
            for index in samples
        ]
        return torch.stack(draws)

    def permutation(self, purpose: str, step: int, size: int) -> list[int]:
        """A uniformly random order of `range(size)`."""
        return torch.randperm(size, generator=keyed_generator(self.seed, purpose, step)).tolist()
