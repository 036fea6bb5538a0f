"""The policy p_θ: a diffusion model with a LoRA adapter on its denoiser.

Methods and evaluation use a model through this class alone. Prediction is its primitive: one guided call of the
denoiser at a corrupted state, from which x̂_0, ε, the model's own error, the drift from other weights and a sampler's
transition follow. What differs between models is in three parts of their own: a family (`models/families`), a noise
process (`models/paths`) and the adapter (`models/adapter.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.adapter import Adapter, AdapterSettings, Weights
from models.checkpointing import Checkpointing, block_checkpointing, stored_bytes
from models.families.base import Family, at_least_fp32
from models.families.conditioning import Conditioning, join
from models.meter import Meter
from models.noise import SeedStream
from models.paths.prediction import Prediction
from models.paths.transition import Transition
from models.sampler import Noise, Observer, SamplerSettings, rows_per_prediction
from models.workers import Workers

MAX_BATCH = 64
"""Images sampled at once without gradients on each worker; no number depends on it beyond rounding."""

MAX_PIXELS = 8 * 512 * 512
"""And at most so many pixels: decoding 64 images of Stable Diffusion at once would take 48 GB."""


class Policy:
    """A text-to-image diffusion policy.

    Args:
        family: the model.
        sampler: the sampler that methods train with.
        meter: counts the calls of the denoiser, the decoder and the text encoder.
        adapter: settings of the LoRA adapter.
        workers: the workers that share the rows of each call of the denoiser and the decoder; this process alone by
            default.

    Attributes:
        denoiser: the denoiser, or a wrapper around it, such as DeepSpeed's engine.
    """

    def __init__(
        self,
        family: Family,
        sampler: SamplerSettings,
        meter: Meter,
        adapter: AdapterSettings | None = None,
        workers: Workers | None = None,
    ):
        self.family = family
        self.path = family.path
        self.sampler = sampler
        self.meter = meter
        self.workers = workers or Workers()
        self.device = family.device
        self.adapter = Adapter(family.parts["denoiser"], adapter or AdapterSettings())
        self.denoiser: Callable[..., Any] = family.parts["denoiser"]
        self._conditioning: dict[str, Conditioning] = {}
        self._stored_bytes: dict[Checkpointing, int] = {}
        for kind, module in family.metered.items():
            meter.watch(module, kind)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by name: denoiser (with its adapter), decoder and encoder (of text)."""
        return self.family.parts

    # -- the adapter ----------------------------------------------------------------------------------------

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The adapter's weights, in a fixed order."""
        return self.adapter.parameters()

    def using(self, weights: Weights | Literal["base"], gradient: bool = False) -> AbstractContextManager[None]:
        """Predictions inside the block use these weights, or are the base model's (see `Adapter.using`)."""
        return self.adapter.using(weights, gradient)

    def scaled(self, factor: float) -> AbstractContextManager[None]:
        """Predictions inside the block use `factor` times the adapter's change of the base model, 0 to 1."""
        return self.adapter.scaled(factor)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the adapter's weights by name, on their device, for `using`."""
        return self.adapter.snapshot()

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's weights by name, copied to the CPU."""
        return {name: value.cpu() for name, value in self.adapter.snapshot().items()}

    def load_state_dict(self, state: Weights) -> None:
        self.adapter.load(state)

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter so that diffusers' `load_lora_weights(folder)` reads it; call it on every worker."""
        layers, config = self.adapter.saved()
        if self.workers.first:
            self.family.save_adapter(folder, layers, config)

    # -- prompts --------------------------------------------------------------------------------------------

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """The conditioning of B prompts. The policy encodes a prompt once and keeps its conditioning."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._conditioning:
                self._conditioning[prompt] = self.family.encode(prompt)
        return join([self._conditioning[prompt] for prompt in prompts])

    # -- the noise process ----------------------------------------------------------------------------------

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of one state, such as channels, height and width of a latent."""
        return self.family.state_shape

    @property
    def pooled_width(self) -> int:
        """The length of a prompt's vector in `Conditioning.pooled`."""
        return self.family.pooled_width

    def start(self, noise: Tensor) -> Tensor:
        """x_T `[B, *state_shape]` from standard normal noise; the meter counts B images."""
        self.meter.count_images(len(noise))
        return self.path.start(noise.to(self.device))

    def times(self, sampler: SamplerSettings | None = None) -> Tensor:
        """The times of a sampler's T steps, noisy to clean, `[T]`; of the training sampler by default."""
        return self.path.times(sampler or self.sampler, self.device)[:-1]

    def noise_keys(self, sampler: SamplerSettings | None = None) -> list[int]:
        """The keys of the noise of a sampler's T steps (see `models.sampler.Noise`)."""
        return self.path.timesteps(sampler or self.sampler)

    def draw_times(self, seeds: SeedStream, purpose: str, step: int, samples: Sequence[int]) -> Tensor:
        """Random times of the forward process `[B]`, one for each of the numbered `samples`."""
        return self.path.draw_times(seeds, purpose, step, samples).to(self.device)

    def corrupt(self, final: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """x_t `[B, ...]` of the forward process, from clean states x_0, times `[B]` and noise `[B, ...]`."""
        return self.path.corrupt(final, noise, times)

    # -- predictions ----------------------------------------------------------------------------------------

    def predict(
        self,
        state: Tensor,
        times: Tensor,
        conditioning: Conditioning,
        guidance: float = 1.0,
        checkpointing: Checkpointing = "none",
    ) -> Prediction:
        """The denoiser's prediction with classifier-free guidance (Ho & Salimans 2022).

        Args:
            state: x_t `[B, *state_shape]`, fp32.
            times: times of the rows, `[B]`.
            conditioning: conditioning of the rows, from `encode`.
            guidance: scale w; out = out_∅ + w (out_c − out_∅). Unless it is 1, the denoiser computes 2B rows.
            checkpointing: what is stored for the backward pass: `none` stores the activations, `block` the inputs of
                each block, `step` only the arguments. The backward pass recomputes the rest. Predictions and gradients
                are the same.
        """
        if checkpointing == "step":
            output = checkpoint(
                self._output, state, times, conditioning, guidance, use_reentrant=False, preserve_rng_state=False
            )
        elif checkpointing == "block":
            rows = len(state) * rows_per_prediction(guidance)

            def count(name: str, block: nn.Module, args: tuple[Any, ...], first: bool) -> None:
                self.meter.count_recomputed_block(name, block, args, rows, first)

            with block_checkpointing(self.parts["denoiser"], count):
                output = self._output(state, times, conditioning, guidance)
        else:
            output = self._output(state, times, conditioning, guidance)
        # Guidance commutes with the conversion to ε, which is affine with the same state for both halves.
        return self.path.prediction(output, state, times)

    def _output(self, state: Tensor, times: Tensor, conditioning: Conditioning, guidance: float) -> Tensor:
        """The denoiser's raw output `[B, ...]` with guidance."""
        if guidance == 1.0:
            return self._denoised(state, times, conditioning)
        empty = self.encode([""]).repeat(len(state))
        both = self._denoised(torch.cat([state, state]), times.repeat(2), join([empty, conditioning]))
        unconditional, conditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def _denoised(self, state: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's raw output `[B, ...]` without guidance, one denoiser row for each state."""
        return self._shared(partial(self.family.output, self.denoiser), state, times, *conditioning.tensors)

    def stored_bytes(self, conditioning: Conditioning, checkpointing: Checkpointing) -> int:
        """Bytes that autograd stores for each denoiser row of a prediction, measured once with the meter paused.

        Args:
            conditioning: conditioning of any one prompt.
            checkpointing: as for `predict`.
        """
        if checkpointing not in self._stored_bytes:
            with self.meter.paused():
                self._stored_bytes[checkpointing] = stored_bytes(
                    lambda: self._row_with_gradient(conditioning, checkpointing).epsilon,
                    self.parts["denoiser"].parameters(),
                )
        return self._stored_bytes[checkpointing]

    def _row_with_gradient(self, conditioning: Conditioning, checkpointing: Checkpointing) -> Prediction:
        state = torch.zeros(1, *self.state_shape, device=self.device, requires_grad=True)
        return self.predict(state, self.times()[-1:], conditioning, checkpointing=checkpointing)

    # -- sampling -------------------------------------------------------------------------------------------

    def transition(
        self, prediction: Prediction, step: int | Tensor, sampler: SamplerSettings | None = None
    ) -> Transition:
        """The distribution of the next state.

        Args:
            prediction: the prediction at x_t.
            step: the number of the step, from 0: one for all rows, or int64 `[B]`.
            sampler: the sampler whose run the step belongs to; the training sampler by default.
        """
        return self.path.transition(prediction, step, sampler or self.sampler)

    def sample(
        self,
        state: Tensor,
        conditioning: Conditioning,
        noise: Noise,
        sampler: SamplerSettings | None = None,
        keep: Sequence[bool] = (),
        begin: int = 0,
        end: int | None = None,
        stochastic: Sequence[bool] = (),
        checkpointing: Checkpointing = "none",
        observe: Observer | None = None,
    ) -> Tensor:
        """Samples x_0 `[B, *state_shape]` from x_T, differentiable through the steps in `keep`.

        Args:
            state: x_T `[B, *state_shape]`, or the state before the step `begin`.
            conditioning: conditioning of the rows, from `encode`.
            noise: gives the noise of each stochastic step; not called for others.
            sampler: the training sampler unless another is given.
            keep: for each step, noisy to clean, whether its predicted noise keeps its gradient; none by default.
                Steps before the first kept one run without autograd. After it the state always carries gradient
                through the affine path, as in AlignProp's code, and only the ε of the other steps is detached.
            begin: number of the first step that is taken, from 0.
            end: number of the step before which to stop; the result is then the state before it. All by default.
            stochastic: for each step, whether it draws noise; the others are those of eta 0. All by default, unless
                the sampler's eta is 0.
            checkpointing: what the kept predictions store (see `predict`).
            observe: called with the number and the prediction of each step.
        """
        sampler = sampler or self.sampler
        times, keys = self.times(sampler), self.noise_keys(sampler)
        kept = _for_each_step("keep", keep, sampler, False)
        drawn = _for_each_step("stochastic", stochastic, sampler, sampler.eta > 0)
        samplers = {True: sampler, False: replace(sampler, eta=0.0)}
        started = False
        for step in range(sampler.steps)[begin:end]:
            started = started or kept[step]
            with torch.set_grad_enabled(started and torch.is_grad_enabled()):
                arguments = (state, times[step].expand(len(state)), conditioning, sampler.guidance)
                if kept[step]:
                    prediction = self.predict(*arguments, checkpointing)
                else:
                    with torch.no_grad():
                        prediction = self.predict(*arguments)
                if observe is not None:
                    observe(step, prediction)
                transition = self.transition(prediction, step, samplers[drawn[step]])
                if drawn[step]:
                    state = transition.draw(noise(keys[step]).to(self.device, non_blocking=True))
                else:
                    state = transition.mode
        return state

    @property
    def sampled_at_once(self) -> int:
        """Images that a worker samples at once where no gradient is kept, as evaluation does."""
        return max(1, min(MAX_BATCH, MAX_PIXELS // self.family.pixels))

    def decode(self, final: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in [0, 1], fp32, from x_0; differentiable except where a pixel is clamped."""
        return self._shared(self.family.decode, final).clamp(0, 1)

    def _shared(self, call: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """The output of a network, at least fp32. The workers share the rows; all rows are billed."""
        with self.meter.whole_batch(len(batches[0])):
            return at_least_fp32(self.workers.map(call, *batches))


def _for_each_step(name: str, flags: Sequence[bool], sampler: SamplerSettings, default: bool) -> list[bool]:
    """One flag for each of the sampler's steps, the default if there are none."""
    if len(flags) not in (0, sampler.steps):
        raise ValueError(f"{name} has {len(flags)} entries for {sampler.steps} steps")
    return list(flags) or [default] * sampler.steps
