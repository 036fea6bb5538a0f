"""A policy on fake tensors, which have shapes, types and lifetimes but no numbers, to measure the memory of a step.

The real `Policy` runs on torch's fake tensors, so `models/memory.py` can measure in about a second what a step would
store, for Stable Diffusion on a laptop as for the embedded model. The fake tensors stand for tensors on the CPU, which
uses fused attention as a GPU does. Only configurations are read, never weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures import KNOWN
from models.checkpointing import Checkpointing
from models.inspection import sample_size
from models.loading import Components, MissingModelError
from models.memory import LiveTensors
from models.meter import Meter
from models.policy import DEFAULT_TARGETS, Policy
from models.sampler import SamplerSettings, Schedule
from models.schedulers import ddim
from models.workers import Workers

Configurations = dict[str, dict[str, Any]]
"""Name of a part (unet, vae, text_encoder, scheduler) -> its configuration."""

Score = Callable[[Tensor], Tensor]
"""A reward function: images `[B, 3, H, W]` to scores `[B]`."""


class DryWorkers(Workers):
    """The first of `size` workers in a single process: `gather` repeats this worker's own share."""

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


def configurations(reference: str) -> Configurations:
    """The configurations of a model, from its folder, from the hub's cache, or from `models.architectures`.

    Raises:
        MissingModelError: none of the three has them, or they cannot be read.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig

    local: Any = {"local_files_only": True}
    if not _is_local(reference):
        if reference in KNOWN:
            return KNOWN[reference]
        raise MissingModelError(f"model {reference}: its configuration is not on this machine")
    try:
        return {
            "unet": UNet2DConditionModel.load_config(reference, subfolder="unet", **local),
            "vae": AutoencoderKL.load_config(reference, subfolder="vae", **local),
            "text_encoder": CLIPTextConfig.from_pretrained(reference, subfolder="text_encoder", **local).to_dict(),
            "scheduler": DDIMScheduler.load_config(reference, subfolder="scheduler", **local),
        }
    except (OSError, ValueError) as error:
        raise MissingModelError(f"model {reference}: its configuration cannot be read") from error


def bare_components(configs: Configurations, dtype: torch.dtype = torch.float32) -> Components:
    """The model's parts on the meta device, where parameters have shapes and types but no values."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(**configs["text_encoder"])
    with torch.device("meta"):
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
        scheduler=ddim(configs["scheduler"]).schedule.scheduler,
    )


@contextmanager
def dry_policy(
    configs: Configurations,
    sampler: SamplerSettings,
    rank: int = 4,
    alpha: int | None = None,
    targets: Any = DEFAULT_TARGETS,
    dtype: torch.dtype = torch.float32,
    workers: int = 1,
) -> Iterator[Policy]:
    """Yields the policy as one of `workers` workers would hold it; tensors made inside the block are fake as well."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    group = DryWorkers(workers)
    policy = Policy(
        bare_components(configs, dtype),
        sampler,
        Meter(workers=group),
        rank,
        alpha,
        targets,
        device="meta",
        workers=group,
    )
    policy.schedule = _DrySchedule(policy.schedule.scheduler)
    # Real tensors from outside the block (a schedule's table, a reward's weights) become fake when they are used.
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in (policy.unet, policy.vae, policy.text_encoder):
            _fill(part)
        policy.device = torch.device("cpu")
        yield policy


def chain_bytes(
    policy: Policy, images: int, kept: int, checkpointing: Checkpointing, score: Score, later: bool = False
) -> tuple[int, int]:
    """Peak bytes of a micro-batch whose reward is differentiated, and the bytes that each further kept step adds.

    At most two steps are run, because a third step stores what the second does.

    Args:
        policy: the policy that `dry_policy` yielded, inside its block.
        images: number of images in the micro-batch, over all workers.
        kept: number of denoising steps that keep their gradient.
        checkpointing: what each kept step stores.
        score: the reward.
        later: whether this is a later micro-batch of a step (see `_peak_bytes`).
    """
    measured = min(kept, 2)
    sampler = SamplerSettings(measured, policy.sampler.guidance, policy.sampler.eta)
    embeddings = policy.embed([""] * images)
    stored: list[int] = []

    def run(live: LiveTensors) -> None:
        start = policy.initial_latents(_latents(policy, images))
        latents = policy.denoise(
            start,
            embeddings,
            lambda _: _latents(policy, images),
            sampler,
            [True] * measured,
            checkpointing,
            observe=lambda *_: stored.append(live.now),
        )
        _score(policy, latents, score).sum().backward()

    peak = _peak_bytes(policy, run, later)
    further = stored[1] - stored[0] if measured > 1 else 0
    return peak + (kept - measured) * further, further


def prediction_bytes(policy: Policy, rows: int, guidance: float) -> int:
    """Peak bytes of one differentiated prediction on `rows` latents, counted over all workers."""
    embeddings = policy.embed([""] * rows)

    def run(live: LiveTensors) -> None:
        timesteps = torch.zeros(rows, dtype=torch.int64)
        policy.epsilon(_latents(policy, rows), timesteps, embeddings, guidance).square().sum().backward()

    return _peak_bytes(policy, run)


def sampling_bytes(policy: Policy, images: int, sampler: SamplerSettings, score: Score) -> int:
    """Peak bytes of sampling and scoring `images` images at once without gradients, counted over all workers."""
    once = SamplerSettings(1, sampler.guidance, sampler.eta)
    embeddings = policy.embed([""] * images)

    @torch.no_grad()
    def run(live: LiveTensors) -> None:
        start = policy.initial_latents(_latents(policy, images))
        latents = policy.denoise(start, embeddings, lambda _: _latents(policy, images), once)
        _score(policy, latents, score)

    return _peak_bytes(policy, run)


def _is_local(reference: str) -> bool:
    """Whether `reference` is a folder, or a hub id whose denoiser configuration is in the cache."""
    from huggingface_hub import try_to_load_from_cache

    if Path(reference).is_dir():
        return True
    return isinstance(try_to_load_from_cache(reference, "unet/config.json"), str)


def _latents(policy: Policy, count: int) -> Tensor:
    return torch.zeros(count, *policy.latent_shape)


def _score(policy: Policy, latents: Tensor, score: Score) -> Tensor:
    group = policy.workers
    images = policy.decode(latents)
    return group.gather(score(group.share(images)), len(images))


def _peak_bytes(policy: Policy, run: Callable[[LiveTensors], None], later: bool = False) -> int:
    """Peak bytes of `run(live)`, less the gradients that it leaves.

    Args:
        later: whether gradients exist from an earlier micro-batch of the same step. In the first micro-batch they are
            allocated late, perhaps after the peak; the two cases differ only where gradients are large.
    """
    weights = policy.trainable_parameters()
    for weight in weights:
        weight.grad = torch.zeros_like(weight) if later else None
    with policy.meter.paused(), LiveTensors() as live:
        run(live)
    made = 0 if later else sum(weight.grad.nbytes for weight in weights if weight.grad is not None)
    return live.rise - made


def _fill(part: nn.Module) -> None:
    """Replaces the parameters and buffers of `part`, on the meta device, by fake tensors."""
    for module in part.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _DrySchedule(Schedule):
    """A schedule with one timestep for all steps: a scheduler would compute them, and fake tensors have no values."""

    def timesteps(self, steps: int) -> list[int]:
        return [self.train_timesteps // 2] * steps

    def previous(self, timesteps: Tensor, steps: int) -> Tensor:
        return timesteps - self.train_timesteps // steps


class _Tokeniser:
    """A tokeniser that turns every prompt into zeros, because only the number of tokens matters for memory."""

    def __init__(self, length: int):
        self.model_max_length = length

    def __call__(self, prompt: str, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(1, self.model_max_length, dtype=torch.int64))
