"""A policy without numbers: its tensors have shapes, types and lifetimes, and nothing is computed.

The real `Policy` runs on torch's fake tensors, so that any method's own step can run on it and what the step stores can
be measured (`models/memory.py`), in seconds, for Stable Diffusion on a laptop as for the embedded model. Fake tensors
stand for tensors on the CPU, which takes fused attention as a GPU does; configurations are read, never weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from models.adapter import AdapterSettings
from models.architectures import KNOWN
from models.checkpointing import Checkpointing
from models.families.conditioning import Conditioning
from models.families.stable_diffusion import StableDiffusion
from models.inspection import sample_size
from models.loading import Components, MissingModelError
from models.memory import LiveTensors
from models.meter import Meter
from models.noise import SeedStream
from models.paths.ddim import DDIM
from models.paths.prediction import Prediction
from models.policy import Policy
from models.sampler import Noise, Observer, SamplerSettings
from models.schedulers import ddim
from models.workers import Workers

Configurations = dict[str, dict[str, Any]]
"""Part -> its configuration: unet, vae, text_encoder, scheduler."""


def configurations(reference: str) -> Configurations:
    """The model's configurations: from its folder, from the hub's cache, or of a known architecture.

    Raises:
        MissingModelError: none of these.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig

    here: Any = {"local_files_only": True}
    if not _is_here(reference):
        if reference in KNOWN:
            return KNOWN[reference]
        raise MissingModelError(f"model {reference}: its configuration is not on this machine")
    try:
        return {
            "unet": UNet2DConditionModel.load_config(reference, subfolder="unet", **here),
            "vae": AutoencoderKL.load_config(reference, subfolder="vae", **here),
            "text_encoder": CLIPTextConfig.from_pretrained(reference, subfolder="text_encoder", **here).to_dict(),
            "scheduler": DDIMScheduler.load_config(reference, subfolder="scheduler", **here),
        }
    except (OSError, ValueError) as error:
        raise MissingModelError(f"model {reference}: its configuration cannot be read") from error


def bare_components(configs: Configurations, dtype: torch.dtype = torch.float32, device: str = "meta") -> Components:
    """The model's parts: shapes and types alone on the meta device, and random weights on another."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(**configs["text_encoder"])
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(configs["unet"])
        vae = AutoencoderKL.from_config(configs["vae"])
        unet.register_to_config(sample_size=sample_size(unet.config, vae.config))
        text_encoder: Any = CLIPTextModel(text)
    if dtype != torch.float32:
        unet, vae, text_encoder = (part.to(dtype) for part in (unet, vae, text_encoder))
    return Components(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_Tokeniser(text.max_position_embeddings),
        scheduler=ddim(configs["scheduler"]).path.scheduler,
    )


class DryPolicy(Policy):
    """A policy as one of a trial's workers would have it; whatever `peak_bytes` runs computes nothing.

    What stores nothing new is left out: calls of the denoiser without a gradient after the first, and the steps of a
    chain that keep their gradient after the second.

    Args:
        configs: the model's.
        sampler: the sampler that methods train with.
        adapter: settings of the LoRA adapter.
        dtype: of the frozen weights.
        workers: how many share the rows.
    """

    def __init__(
        self,
        configs: Configurations,
        sampler: SamplerSettings,
        adapter: AdapterSettings | None = None,
        dtype: torch.dtype = torch.float32,
        workers: int = 1,
    ):
        group = DryWorkers(workers)
        family, meter = StableDiffusion(bare_components(configs, dtype), "meta"), Meter(workers=group)
        super().__init__(family, sampler, meter, adapter, group)
        self.device = family.device = torch.device("cpu")
        self.path = _DryPath(family.scheduler)
        self.denoiser = self._denoise_once
        self._batches: set[torch.Size] = set()
        self._live = LiveTensors()
        self._left_out = 0
        # What comes from outside (a schedule's table, a reward's weights) becomes fake when it is used.
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self._fake:
            for part in self.parts.values():
                _fill(part)

    def frozen_bytes(self, shards: int = 1) -> int:
        """Bytes of a worker's share of the denoiser's frozen weights, each cut into so many shards of equal size."""
        denoiser = self.parts["denoiser"]
        frozen = [weight for weight in denoiser.parameters() if not weight.requires_grad]
        buffers = sum(buffer.nbytes for buffer in denoiser.buffers())
        return buffers + sum(-(-weight.numel() // shards) * weight.element_size() for weight in frozen)

    def peak_bytes(self, run: Callable[[], object]) -> int:
        """The most bytes of tensors that `run` makes and has at once, beside the adapter's gradients."""
        self._left_out = 0
        self._batches.clear()
        with self._fake, _Answers(), self.meter.paused():
            for weight in self.trainable_parameters():
                weight.grad = torch.zeros_like(weight)  # there from a step's first micro-batch on
            with LiveTensors() as self._live:
                run()
        return self._live.peak + self._left_out

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
        """As `Policy.sample`; of more than two kept steps all but two are left out, as each stores what one does."""
        sampler, surplus = sampler or self.sampler, max(0, sum(keep) - 2)
        if surplus:
            keep = [*[False] * (len(keep) - surplus - 2), True, True]
            sampler = replace(sampler, steps=len(keep))
            stochastic = stochastic[surplus:]
        stored: list[int] = []

        def measure(step: int, prediction: Prediction) -> None:
            stored.append(self._live.now)
            if observe is not None:
                observe(step, prediction)

        final = super().sample(
            state, conditioning, noise, sampler, keep, begin, end, stochastic, checkpointing, measure
        )
        if surplus:
            self._left_out += surplus * (stored[-1] - stored[-2])
        return final

    def stored_bytes(self, conditioning: Conditioning, checkpointing: Checkpointing) -> int:
        """As `Policy.stored_bytes`, of tensors that have no address; inside `peak_bytes`."""
        before = self._live.now
        prediction = self._row_with_gradient(conditioning, checkpointing)
        return self._live.now - before - prediction.state.nbytes

    def _denoise_once(self, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The denoiser where autograd stores something; otherwise once for a batch of a size."""
        if torch.is_grad_enabled() or latents.shape not in self._batches:
            self._batches.add(latents.shape)
            return self.parts["denoiser"](latents, *args, **kwargs)
        return (torch.empty_like(latents),)


class DryWorkers(Workers):
    """The first of `size` workers, with no others: what it gathers is its own share, repeated."""

    def __init__(self, size: int):
        self.rank, self.size = 0, size

    def share(self, batch: Tensor) -> Tensor:
        return batch[: self.rows(len(batch))]

    def gather(self, part: Tensor, count: int) -> Tensor:
        return part if self.size == 1 else torch.cat([part] * self.size)[:count]

    def agree(self, value: Any) -> Any:
        return value

    def each(self, value: Any) -> list[Any]:
        return [value] * self.size


class DrySeeds(SeedStream):
    """Draws that decide how much a step does: every integer is the highest it may be, or the lowest."""

    def __init__(self, highest: bool):
        super().__init__(0)
        self.highest = highest

    def noise(self, purpose: str, step: int, timestep: int, samples: Sequence[int], shape: Sequence[int]) -> Tensor:
        return torch.zeros(len(samples), *shape)

    def integers(self, purpose: str, step: int, samples: Sequence[int], low: int, high: int) -> Tensor:
        # A constant's value is known to fake tensors too.
        return torch.tensor([high - 1 if self.highest else low] * len(samples))

    def permutation(self, purpose: str, step: int, size: int) -> list[int]:
        return list(range(size))


class _Answers(TorchDispatchMode):
    """What a program asks of a tensor's values: a number is 0, and of a mask every element is chosen."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func is aten._local_scalar_dense.default and args[0].constant is None:
            return {torch.bool: False}.get(args[0].dtype, 0)
        if func in (aten.all.default, aten.any.default):
            return torch.tensor(func is aten.all.default)  # whoever asks is content
        if func is aten.nonzero.default:
            return torch.zeros(args[0].numel(), args[0].dim(), dtype=torch.int64)
        if func is aten.index.Tensor:
            places = [torch.zeros(index.numel(), dtype=torch.int64) if _is_mask(index) else index for index in args[1]]
            return func(args[0], places)
        return func(*args, **(kwargs or {}))


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool and index.dim() == 1


def _is_here(reference: str) -> bool:
    """Whether a folder, or what the cache holds of a hub id, has the denoiser's configuration."""
    from huggingface_hub import try_to_load_from_cache

    if Path(reference).is_dir():
        return True
    return isinstance(try_to_load_from_cache(reference, "unet/config.json"), str)


def _fill(part: nn.Module) -> None:
    """Fake tensors in the place of the meta device's."""
    for module in part.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _DryPath(DDIM):
    """One timestep for all steps: a scheduler would compute them, and here nothing is computed."""

    def timesteps(self, sampler: SamplerSettings) -> list[int]:
        return [self.train_timesteps // 2] * sampler.steps

    def noiseless_step(self, sampler: SamplerSettings) -> int | None:
        return None


class _Tokeniser:
    """Every prompt as zeros: only the number of tokens matters."""

    def __init__(self, length: int):
        self.model_max_length = length

    def __call__(self, prompt: str, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(1, self.model_max_length, dtype=torch.int64))
