"""Parts of both training stages: the clock that decays the learning rate, checkpoints and the log."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

WARMUP = 200
CHECKPOINT_SECONDS = 60.0


def save_atomically(state: Any, path: Path) -> None:
    """Saves `state` with `torch.save` to a temporary file, and renames that file to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    torch.save(state, temporary)
    temporary.replace(path)


def average_gradients(model: nn.Module) -> None:
    """Replaces the gradients by their means over the workers, in one exchange; does nothing for one worker."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def rank_and_workers() -> tuple[int, int]:
    """The rank of this process and the number of workers; (0, 1) without torch.distributed."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


class Course:
    """The clock of a training stage, which ends after `steps` steps or `minutes` minutes, whichever comes first.

    Seconds before an interruption count, so a resumed stage takes no longer in all than an uninterrupted one. The
    learning rate follows a linear warm-up of 200 steps and half a cosine over the fraction done.

    Args:
        log: JSON lines file for figures.
        rate: the highest learning rate.
        steps: the most steps.
        minutes: the most minutes.
    """

    def __init__(self, log: Path, rate: float, steps: int, minutes: float) -> None:
        self.step = 0
        self.seconds = 0.0
        self._log = log
        self._rate = rate
        self._steps = steps
        self._minutes = minutes
        self._saved = time.monotonic()

    def done(self) -> float:
        """The fraction of the stage that is done, 0 to 1."""
        return min(1.0, max(self.step / self._steps, self.seconds / 60 / self._minutes))

    def agree(self) -> None:
        """Sets the clocks of all workers to the first worker's, so that they end together with the same rate."""
        if dist.is_initialized():
            seconds = torch.tensor(self.seconds, dtype=torch.float64)
            dist.broadcast(seconds, 0)
            self.seconds = float(seconds)

    def learning_rate(self) -> float:
        """The learning rate of the current step."""
        return self._rate * min(1.0, (self.step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * self.done()))

    def run(self, optimizer: torch.optim.Optimizer) -> Iterator[int]:
        """Yields step numbers until the end, with the optimiser's learning rate set for each step."""
        while self._agreed() < 1.0:
            began = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate()
            yield self.step
            self.step += 1
            self.seconds += time.monotonic() - began

    def _agreed(self) -> float:
        self.agree()
        return self.done()

    def due(self) -> bool:
        """Whether to save a checkpoint now: True once every 60 seconds. The caller also saves one at the end."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True

    def write(self, **figures: float) -> None:
        """Appends one line of figures to the log, and prints it."""
        line = {"step": self.step, "minutes": round(self.seconds / 60, 2), "rate": self.learning_rate(), **figures}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: float(f"{value:.5g}") for key, value in line.items()}) + "\n")
        print(" ".join(f"{key}={value:.5g}" for key, value in line.items()), flush=True)

    def state_dict(self) -> dict[str, float]:
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
