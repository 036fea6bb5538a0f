"""The common part of TRL's two diffusion trainers behind our contract.

TRL 0.23.1 is the last release with these trainers (Hugging Face, Apache-2.0, github.com/huggingface/trl).
"""

import logging
import sys
import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.base import Method, mean
from methods.peers.random_state import OwnRandomState
from methods.settings import OURS, Settings, setting
from models.noise import keyed_generator
from models.sampler import SamplerSettings

SOURCE = "huggingface/trl at v0.23.1, trl/trainer/alignprop_config.py and ddpo_config.py"


class TRLSettings(Settings, source=SOURCE):
    """Settings of both trainers. Settings of our methods that TRL lacks are absent here; giving one is an error."""

    learning_rate: float = setting(..., "AdamW's learning rate, constant", scales=True, gt=0)
    weight_decay: float = setting(1e-4, "AdamW's decoupled weight decay", published=1e-4, scales=True, ge=0)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", published=1.0, scales=True, gt=0)
    adam_betas: tuple[float, float] = setting((0.9, 0.999), "AdamW's β", published=(0.9, 0.999), scales=True)
    adam_epsilon: float = setting(1e-8, "AdamW's ε", published=1e-8, scales=True, gt=0)
    micro_batch: int = setting(
        32, "most images sampled, or denoiser rows differentiated, at once", source=OURS, scales=True, ge=1
    )


class TRLMethod(Method):
    """One of TRL's trainers, on the harness's prompts, reward and meter."""

    requires = ("trl==0.23.1",)
    own_trainer = True
    families = ("stable_diffusion",)
    summary: ClassVar[str]
    settings: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.updates = 0
        self._prompts: deque[str] = deque()
        self._rewards: list[Tensor] = []
        self._norms: list[float] = []
        self._logged: list[dict[str, float]] = []
        self._random = OwnRandomState(self.policy.device)
        # TRL seeds the global random state when it builds a trainer; this seeded state is kept as the method's own.
        with self._random.active(), quiet():
            self.trainer = self._build()
        self._listen()

    # -- for the file of each trainer -----------------------------------------------------------------------

    @abstractmethod
    def trainer_class(self) -> tuple[Any, Any]:
        """TRL's configuration class and trainer class, which the method imports when it is called."""

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """The arguments of TRL's configuration that only this trainer has, for a full step."""

    def mixed_precision(self) -> str:
        """The precision of TRL's configuration.

        Raises:
            ValueError: the policy's is not fp32.
        """
        if next(self.policy.parts["denoiser"].parameters()).dtype != torch.float32:
            # TRL's half precision wraps the U-Net's forward permanently, which would change evaluation too.
            raise ValueError(f"{self.name}: runs in fp32 only; set resources.precision: fp32")
        return "no"

    # -- building -------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, settings: Any, sampler: SamplerSettings) -> None:
        if sampler.guidance < 1:
            raise ValueError("TRL samples without guidance below 1; set guidance to 1 or more")

    def _build(self) -> Any:
        from accelerate import PartialState

        on_cpu = self.policy.device.type == "cpu"
        PartialState(cpu=on_cpu)  # without it accelerate's logger raises in TRL's constructors
        from methods.peers.pipeline import PolicyPipeline

        config, trainer = self.trainer_class()
        sampler, settings = self.policy.sampler, self.settings
        return trainer(
            config(
                seed=keyed_generator(self.seeds.seed, self.name).initial_seed() % 2**31,
                mixed_precision=self.mixed_precision(),
                allow_tf32=False,
                save_freq=sys.maxsize,  # the harness keeps the checkpoints
                accelerator_kwargs={"cpu": on_cpu},
                sample_num_steps=sampler.steps,
                sample_eta=sampler.eta,
                sample_guidance_scale=sampler.guidance,
                train_learning_rate=settings.learning_rate,
                train_adam_beta1=settings.adam_betas[0],
                train_adam_beta2=settings.adam_betas[1],
                train_adam_weight_decay=settings.weight_decay,
                train_adam_epsilon=settings.adam_epsilon,
                train_max_grad_norm=settings.max_grad_norm,
                **self.configuration(),
            ),
            self._score,
            lambda: (self._prompts.popleft(), {}),
            PolicyPipeline(self.policy),
        )

    def _listen(self) -> None:
        """Records the trainer's reports and the gradient's norm of each update; no tracker is attached."""
        accelerator = self.trainer.accelerator
        clip = accelerator.clip_grad_norm_

        def before_update(*args: Any) -> Any:
            self.before_update()
            norm = clip(*args)
            self._norms.append(float(norm))
            return norm

        accelerator.clip_grad_norm_ = before_update
        accelerator.log = lambda values, step=None: self._logged.append(scalars(values))

    # -- a step ---------------------------------------------------------------------------------------------

    def _score(self, images: Tensor, prompts: Sequence[str], metadata: Sequence[Any]) -> tuple[Tensor, dict[str, Any]]:
        """TRL's reward function: images `[B, 3, H, W]`, already in [0, 1], to `(rewards, metadata)`."""
        rewards = self.reward(images, list(prompts))
        self._rewards.append(rewards.detach())
        return rewards, {}

    def before_update(self) -> None:
        """Called when the gradient of an update is complete, before it is clipped."""

    def run_trainer(self, prompts: Sequence[str], accumulation: int) -> None:
        """Runs one step of TRL's trainer on exactly these prompts, with one image each.

        Args:
            prompts: the prompts, in the order in which TRL draws them.
            accumulation: number of backward passes in an update.
        """
        accelerator = self.trainer.accelerator
        accelerator.step = 0
        accelerator.gradient_accumulation_steps = accumulation  # accelerate shares it between trainers of a process
        self._prompts = deque(prompts)
        self._rewards, self._norms, self._logged = [], [], []
        self.policy.meter.count_images(len(prompts))
        try:
            with self._random.active(), quiet():
                self.trainer.step(self.iteration, self.updates)
        finally:
            self.policy.parts["denoiser"].eval()
            self.iteration += 1
            self.updates += len(self._norms)

    def mean_of(self, name: str) -> float:
        """The mean of `name` over the reports of the step that contain it; 0 if none does."""
        return mean([report[name] for report in self._logged if name in report])

    # -- state ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "updates": self.updates,
            "optimiser": self.trainer.optimizer.state_dict(),
            "random": self._random.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updates = state["updates"]
        self.trainer.optimizer.load_state_dict(state["optimiser"])
        self._random.load_state_dict(state["random"])


def scalars(report: dict[str, Any]) -> dict[str, float]:
    """The tensors of a trainer's report as numbers, detached because those of DDPO keep their graph."""
    return {name: float(value.detach()) for name, value in report.items() if isinstance(value, Tensor)}


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`: TRL cuts a batch into equal pieces only."""
    return next(size for size in range(min(number, limit), 0, -1) if number % size == 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences notices inside the block: both trainers announce their deprecation, and that no images are logged."""
    loggers = [logging.getLogger(name) for name in ("trl", "accelerate", "diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
