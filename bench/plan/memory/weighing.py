"""What a trial's memory is made of, measured in one training step.

The first step is measured, and no number of the trial depends on it. Every worker looks at itself; the list of all of
them goes into `trial.json`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.build.zero import ZeroOptimiser
from methods.optimiser import LocalOptimiser
from models.memory import LiveTensors, held_bytes, weight_bytes
from models.policy import Policy
from rewards.base import Reward


class Weighing:
    """One step's memory on this worker.

    Args:
        policy: its weights are counted.
        rewards: theirs too; a network that two of them share counts once.
        optimiser: its gradients are counted before each of its steps, its state at the end; None for a method that
            brings its own.
    """

    def __init__(self, policy: Policy, rewards: Iterable[Reward], optimiser: LocalOptimiser | ZeroOptimiser | None):
        self.policy, self.rewards, self.optimiser = policy, list(rewards), optimiser
        self.live = LiveTensors()
        self.activations = 0
        self.gradients: int | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """The step is what runs inside the block."""
        with self._watched(), self.live:
            yield
        if self.gradients is None:  # the harness's optimiser was not used
            self.activations = self.live.rise

    def as_dict(self, **said: Any) -> dict[str, Any]:
        """The step's bytes; None where a method that brings its own optimiser hides them.

        Args:
            said: what else is worth knowing of the step.
        """
        policy = self.policy
        known = self.optimiser is not None and self.gradients is not None
        return {
            "parameters": {
                "denoiser": weight_bytes([policy.unet], trained=False),
                "adapter": weight_bytes([policy.unet], trained=True),
                "decoder": weight_bytes([policy.vae]),
                "text_encoder": weight_bytes([policy.text_encoder]),
                "rewards": weight_bytes(module for reward in self.rewards for module in reward.modules()),
            },
            "gradients": self.gradients,
            "optimiser": held_bytes(self.optimiser.state()) if known and self.optimiser else None,
            "activations": self.activations,
            **said,
        }

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Looks at the optimiser before each of its steps: gradients are whole then, and activations have peaked."""
        optimiser = self.optimiser
        if optimiser is None:
            yield
            return
        update: Callable[[], float] = optimiser.step

        def step() -> float:
            gradients = held_bytes(optimiser.gradients())
            self.gradients = max(gradients, self.gradients or 0)
            self.activations = max(self.activations, self.live.rise - gradients)
            norm = update()
            self.live.restart()  # the state that AdamW has made now is no activation of what follows
            return norm

        optimiser.step = step  # type: ignore[method-assign]
        try:
            yield
        finally:
            del optimiser.step  # the class's again
