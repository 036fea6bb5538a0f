"""The policy p_θ: a latent diffusion model with a LoRA adapter on its denoiser.

Methods and evaluation use a model through this class: it embeds prompts, predicts noise (guided, always in ε), samples
whole trajectories with or without gradients, decodes latents to images, and makes the same predictions without the
adapter, as the reference model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.adapter import DEFAULT_TARGETS, wrong_targets
from models.checkpointing import Checkpointing, block_checkpointing, stored_bytes
from models.loading import Components, load_components, token_limit
from models.meter import Meter
from models.noise import keyed_generator
from models.sampler import (
    Noise,
    Observer,
    Prediction,
    SamplerSettings,
    Schedule,
    Trajectory,
    log_probability,
    rows_per_prediction,
)
from models.workers import Workers

MAX_BATCH = 64
"""Images sampled at once without gradients on each worker; no number depends on it beyond rounding."""

MAX_PIXELS = 8 * 512 * 512
"""And at most so many pixels: decoding 64 images of Stable Diffusion at once would take 48 GB."""

Gathered = Callable[[list[torch.nn.Parameter], bool], AbstractContextManager[None]]
"""Gathers sharded weights inside a block; the flag says whether values that the block writes to them are kept."""


def _unsharded(parameters: list[torch.nn.Parameter], write: bool) -> AbstractContextManager[None]:
    return nullcontext()


class Policy:
    """A text-to-image diffusion policy.

    Args:
        components: the parts of the model, which the constructor freezes in place.
        sampler: the sampler that methods train with.
        meter: counts the calls of the denoiser, the decoder and the text encoder.
        rank, alpha, targets: settings of the LoRA adapter (Hu et al. 2021), which has Gaussian initial weights as in
            AlignProp's code. alpha is the rank unless given.
        seed: seed of the adapter's initial weights.
        device: the device that the parts are moved to.
        workers: the workers that share the rows of each call of the denoiser and the decoder; this process alone by
            default.
    """

    def __init__(
        self,
        components: Components,
        sampler: SamplerSettings,
        meter: Meter,
        rank: int = 4,
        alpha: int | None = None,
        targets: Sequence[str] = DEFAULT_TARGETS,
        seed: int = 0,
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
    ):
        self.sampler = sampler
        self.meter = meter
        self.workers = workers or Workers()
        self.gathered: Gathered = _unsharded
        self.device = torch.device(device)
        self.unet, self.vae = components.unet, components.vae
        self.text_encoder, self.tokenizer = components.text_encoder, components.tokenizer
        self.schedule = Schedule(components.scheduler)
        for part in (self.unet, self.vae, self.text_encoder):
            part.requires_grad_(False).eval().to(self.device)
        self._add_adapter(rank, rank if alpha is None else alpha, list(targets), seed)
        self.denoiser: Callable[..., Any] = self.unet  # or a wrapper around it, such as DeepSpeed's engine
        self._embeddings: dict[str, Tensor] = {}
        self._stored_bytes: dict[Checkpointing, int] = {}
        meter.watch(self.unet, "denoiser")
        meter.watch(self.vae.decoder, "decoder")
        meter.watch(self.text_encoder, "encoder")

    @classmethod
    def load(
        cls,
        reference: str,
        sampler: SamplerSettings,
        meter: Meter,
        rank: int = 4,
        alpha: int | None = None,
        targets: Sequence[str] = DEFAULT_TARGETS,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        workers: Workers | None = None,
    ) -> "Policy":
        """Loads a local folder or hub id in `StableDiffusionPipeline` layout (see `models.loading`)."""
        components = load_components(reference, dtype)
        return cls(components, sampler, meter, rank, alpha, targets, seed, device, workers)

    # -- the adapter ----------------------------------------------------------------------------------------

    def _add_adapter(self, rank: int, alpha: int, targets: list[str], seed: int) -> None:
        from peft import LoraConfig

        wrong = wrong_targets(self.unet, targets)
        if wrong:
            raise ValueError(f"lora.targets: {'; '.join(wrong)}")
        # `save_adapter` writes the configuration into the adapter's file.
        self.lora_config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights="gaussian")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_generator(seed, "adapter").initial_seed())
            self.unet.add_adapter(self.lora_config)
        for parameter in self.trainable_parameters():
            parameter.data = parameter.data.float()  # AdamW needs fp32 masters even under a bf16 base

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's weights, in a fixed order."""
        return [parameter for parameter in self.unet.parameters() if parameter.requires_grad]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Predictions inside the block are those of the base model: the LoRA scale is zero, autograd is off.

        Do not enter the block between a forward pass and its backward pass: recomputation under gradient checkpointing
        would use the base model.
        """
        from peft.tuners.lora import LoraLayer

        layers = [module for module in self.unet.modules() if isinstance(module, LoraLayer)]
        scalings = [dict(layer.scaling) for layer in layers]
        for layer in layers:
            layer.scaling = dict.fromkeys(layer.scaling, 0.0)
        try:
            with torch.no_grad():
                yield
        finally:
            for layer, scaling in zip(layers, scalings, strict=True):
                layer.scaling = scaling

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's weights by name, copied."""
        with self.gathered(self.trainable_parameters(), False):
            return {
                name: parameter.detach().cpu().clone()
                for name, parameter in self.unet.named_parameters()
                if parameter.requires_grad
            }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        own = dict(self.unet.named_parameters())
        with self.gathered([own[name] for name in state], True), torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    @contextmanager
    def adapter(self, state: dict[str, Tensor]) -> Iterator[None]:
        """Predictions inside the block use the adapter's weights in `state` (see `state_dict`); autograd is off.

        As with `reference`, do not enter the block between a forward pass and its backward pass.
        """
        own = self.state_dict()
        self.load_state_dict(state)
        try:
            with torch.no_grad():
                yield
        finally:
            self.load_state_dict(own)

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter so that diffusers' `load_lora_weights(folder)` reads it."""
        from diffusers import StableDiffusionPipeline
        from peft.utils import get_peft_model_state_dict

        config = self.lora_config.to_dict()
        config["target_modules"] = sorted(config["target_modules"])
        with self.gathered(self.trainable_parameters(), False):
            layers = {name: value.detach().contiguous() for name, value in get_peft_model_state_dict(self.unet).items()}
            if self.workers.first:
                StableDiffusionPipeline.save_lora_weights(
                    folder,
                    unet_lora_layers=layers,
                    unet_lora_adapter_metadata={key: value for key, value in config.items() if value is not None},
                )

    # -- text -----------------------------------------------------------------------------------------------

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings `[B, L, D]` of B prompts. The policy encodes a prompt once and keeps its embedding."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._embeddings:
                tokens = self.tokenizer(
                    prompt,
                    padding="max_length",
                    truncation=True,
                    max_length=token_limit(self.tokenizer, self.text_encoder.config),
                    return_tensors="pt",
                ).input_ids.to(self.device)
                with torch.no_grad():
                    self._embeddings[prompt] = self.text_encoder(tokens)[0][0]
        return torch.stack([self._embeddings[prompt] for prompt in prompts])

    # -- denoising ------------------------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one latent."""
        size = self.unet.config.sample_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return self.unet.config.in_channels, height, width

    @property
    def sampled_at_once(self) -> int:
        """Images that a worker samples at once where no gradient is kept, as evaluation does."""
        scale = 2 ** (len(self.vae.config.block_out_channels) - 1)
        pixels = math.prod(scale * side for side in self.latent_shape[1:])
        return max(1, min(MAX_BATCH, MAX_PIXELS // pixels))

    def output(self, latents: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """The denoiser's raw output `[B, ...]` (ε or v) without guidance, one denoiser row for each latent."""
        dtype = next(self.unet.parameters()).dtype  # for `unet.dtype`, diffusers walks through all parameters
        return self._call_shared(self.denoiser, latents.to(dtype), timesteps, embeddings.to(dtype))

    def guided_output(self, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0) -> Tensor:
        """The denoiser's output (ε or v) `[B, ...]` with classifier-free guidance (Ho & Salimans 2022).

        Args:
            latents: x_t `[B, C, h, w]`, fp32.
            timesteps: int64 `[B]`, one for each row.
            embeddings: `[B, L, D]` from `embed`.
            guidance: scale w; out = out_∅ + w (out_c − out_∅). Unless it is 1, the denoiser computes 2B rows.
        """
        if guidance == 1.0:
            return self.output(latents, timesteps, embeddings)
        empty = self.embed([""]).expand(len(latents), -1, -1)
        both = self.output(torch.cat([latents, latents]), timesteps.repeat(2), torch.cat([empty, embeddings]))
        unconditional, conditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def predict(self, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0) -> Prediction:
        """The denoiser's prediction with guidance, for models that predict ε and v; arguments as `guided_output`."""
        # Guidance commutes with the conversion to ε, which is affine with the same latents for both halves.
        output = self.guided_output(latents, timesteps, embeddings, guidance)
        return self.schedule.prediction(output, latents, timesteps)

    def epsilon(self, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0) -> Tensor:
        """The predicted noise ε `[B, ...]`; arguments as `guided_output`."""
        return self.predict(latents, timesteps, embeddings, guidance).epsilon

    def kept_prediction(
        self,
        latents: Tensor,
        timesteps: Tensor,
        embeddings: Tensor,
        guidance: float = 1.0,
        checkpointing: Checkpointing = "none",
    ) -> Prediction:
        """A prediction that keeps its gradient: `predict`, with a choice of what is stored for the backward pass.

        Args:
            latents, timesteps, embeddings, guidance: as for `guided_output`.
            checkpointing: `none` stores the activations, `block` the inputs of each block, `step` only the arguments.
                The backward pass recomputes the rest. Predictions and gradients are the same.
        """
        arguments = (latents, timesteps, embeddings, guidance)
        if checkpointing == "step":
            output = checkpoint(self.guided_output, *arguments, use_reentrant=False, preserve_rng_state=False)
            return self.schedule.prediction(output, latents, timesteps)
        if checkpointing == "block":
            rows = len(latents) * rows_per_prediction(guidance)

            def count(name: str, block: torch.nn.Module, args: tuple[Any, ...], first: bool) -> None:
                self.meter.count_recomputed_block(name, block, args, rows, first)

            with block_checkpointing(self.unet, count):
                return self.predict(*arguments)
        return self.predict(*arguments)

    def stored_bytes(self, embeddings: Tensor, checkpointing: Checkpointing) -> int:
        """Bytes that autograd stores for each denoiser row of a `kept_prediction`, measured once with the meter paused.

        Args:
            embeddings: `[1, L, D]` of any prompt.
            checkpointing: as for `kept_prediction`.
        """
        if checkpointing not in self._stored_bytes:
            latents = torch.zeros(1, *self.latent_shape, device=self.device, requires_grad=True)
            rows = torch.zeros(1, dtype=torch.int64, device=self.device)
            with self.meter.paused():
                self._stored_bytes[checkpointing] = stored_bytes(
                    lambda: self.kept_prediction(latents, rows, embeddings, checkpointing=checkpointing).epsilon,
                    self.unet.parameters(),
                )
        return self._stored_bytes[checkpointing]

    def initial_latents(self, noise: Tensor) -> Tensor:
        """x_T `[B, *latent_shape]` from standard normal noise; the meter counts B images."""
        self.meter.count_images(len(noise))
        return noise.to(self.device) * self.schedule.init_noise_sigma

    def denoise(
        self,
        latents: Tensor,
        embeddings: Tensor,
        noise: Noise,
        sampler: SamplerSettings | None = None,
        keep: Sequence[bool] = (),
        checkpointing: Checkpointing = "none",
        observe: Observer | None = None,
        stop: int | None = None,
    ) -> Tensor:
        """Samples x_0 `[B, C, h, w]` from x_T, differentiable through the steps in `keep`.

        Args:
            latents: x_T `[B, C, h, w]`.
            embeddings: `[B, L, D]`.
            noise: gives the noise of each step; not called if eta is 0.
            sampler: the training sampler unless another is given.
            keep: for each step, noisy to clean, whether its predicted noise keeps its gradient; none by default.
                Steps before the first kept one run without autograd. After it the latents always carry gradient
                through the affine path, as in AlignProp's code, and only the ε of the other steps is detached.
            checkpointing: what the kept predictions store (see `kept_prediction`).
            observe: called with x_t, timesteps and ε of each step.
            stop: number of steps to take; the result is then the latent before the next step. All steps by default.
        """
        sampler = sampler or self.sampler
        keeps = list(keep) or [False] * sampler.steps
        started = False
        for timestep, kept in list(zip(self.schedule.timesteps(sampler.steps), keeps, strict=True))[:stop]:
            started = started or kept
            rows = torch.full((len(latents),), timestep, device=self.device)
            with torch.set_grad_enabled(started and torch.is_grad_enabled()):
                arguments = (latents, rows, embeddings, sampler.guidance)
                if not kept:
                    with torch.no_grad():
                        prediction = self.predict(*arguments)
                else:
                    prediction = self.kept_prediction(*arguments, checkpointing)
                if observe is not None:
                    observe(latents, rows, prediction.epsilon)
                latents, sigma = self.schedule.step(prediction, latents, rows, sampler.steps, sampler.eta)
                if sampler.eta > 0:
                    latents = latents + sigma * noise(timestep).to(self.device)
        return latents

    @torch.no_grad()
    def rollout(self, latents: Tensor, embeddings: Tensor, noise: Noise) -> Trajectory:
        """Samples a trajectory with the training sampler, with its log-probabilities.

        Args:
            latents: x_T `[B, C, h, w]`.
            embeddings: `[B, L, D]`.
            noise: gives the noise of each step.

        Raises:
            ValueError: a step adds no noise (eta is 0, or see `Schedule.noiseless_step`).
        """
        sampler = self.sampler
        timesteps = self.schedule.timesteps(sampler.steps)
        states, log_probabilities = [latents], []
        for timestep in timesteps:
            rows = torch.full((len(latents),), timestep, device=self.device)
            mean, sigma = self.step_distribution(latents, rows, embeddings)
            latents = mean + sigma * noise(timestep).to(self.device)
            states.append(latents)
            log_probabilities.append(log_probability(latents, mean, sigma))
        return Trajectory(timesteps, torch.stack(states), torch.stack(log_probabilities))

    def step_distribution(self, latents: Tensor, timesteps: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `[B, ...]` and σ `[B, 1, ...]` of p_θ(x_{t−1} | x_t, c) under the training sampler.

        Args:
            latents: x_t `[B, C, h, w]`.
            timesteps: int64 `[B]`, one for each row.
            embeddings: `[B, L, D]`.
        """
        sampler = self.sampler
        prediction = self.predict(latents, timesteps, embeddings, sampler.guidance)
        return self.schedule.step(prediction, latents, timesteps, sampler.steps, sampler.eta)

    def decode(self, latents: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in [0, 1], fp32, from x_0; differentiable except where a pixel is clamped."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        return (self._call_shared(self.vae.decode, scaled) / 2 + 0.5).clamp(0, 1)

    def _call_shared(self, network: Callable[..., Any], *batches: Tensor) -> Tensor:
        """The output of a diffusers network, at least fp32. The workers share the rows; all rows are billed."""

        def call(*rows: Tensor) -> Tensor:
            return network(*rows, return_dict=False)[0]

        with self.meter.whole_batch(len(batches[0])):
            return at_least_fp32(self.workers.map(call, *batches))


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Converts half precision to fp32; returns fp32 and fp64 tensors unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
