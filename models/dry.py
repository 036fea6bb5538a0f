"""A policy without numbers: its tensors have shapes, types and lifetimes, and nothing is computed.

The real `Policy` runs on torch's fake tensors, so that what a step would store can be measured (`models/memory.py`)
in about a second, for Stable Diffusion on a laptop as for the embedded model. They stand for tensors on the CPU, which
takes fused attention as a GPU does; only configurations are read, never weights.
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
"""Part -> its configuration: unet, vae, text_encoder, scheduler."""

Score = Callable[[Tensor], Tensor]
"""Images `[B, 3, H, W]` to scores `[B]`."""


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


def bare_components(configs: Configurations, dtype: torch.dtype = torch.float32) -> Components:
    """The model's parts on the meta device: shapes and types alone."""
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
    """A policy as one of its `workers` would have it, inside a block whose new tensors are fake too."""
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
    # What the block is given from outside (a schedule's table, a reward's weights) becomes fake when it is used.
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in (policy.unet, policy.vae, policy.text_encoder):
            _fill(part)
        policy.device = torch.device("cpu")
        yield policy


def chain_bytes(
    policy: Policy, images: int, kept: int, checkpointing: Checkpointing, score: Score, later: bool = False
) -> tuple[int, int]:
    """The most bytes of a micro-batch whose reward is differentiated, and how many of them each further kept step adds.

    At most two steps are looked at: a third stores what the second does.

    Args:
        policy: in its `dry_policy` block.
        images: of the micro-batch, all workers' together.
        kept: denoising steps that keep their gradient.
        checkpointing: of each.
        score: the reward.
        later: see `_most`.
    """
    seen = min(kept, 2)
    sampler = SamplerSettings(seen, policy.sampler.guidance, policy.sampler.eta)
    embeddings = policy.embed([""] * images)
    stored: list[int] = []

    def run(live: LiveTensors) -> None:
        start = policy.initial_latents(_latents(policy, images))
        latents = policy.denoise(
            start,
            embeddings,
            lambda _: _latents(policy, images),
            sampler,
            [True] * seen,
            checkpointing,
            observe=lambda *_: stored.append(live.now),
        )
        _score(policy, latents, score).sum().backward()

    peak = _most(policy, run, later)
    further = stored[1] - stored[0] if seen > 1 else 0
    return peak + (kept - seen) * further, further


def prediction_bytes(policy: Policy, rows: int, guidance: float) -> int:
    """The most bytes of one differentiated prediction on `rows` latents, all workers' together."""
    embeddings = policy.embed([""] * rows)

    def run(live: LiveTensors) -> None:
        timesteps = torch.zeros(rows, dtype=torch.int64)
        policy.epsilon(_latents(policy, rows), timesteps, embeddings, guidance).square().sum().backward()

    return _most(policy, run)


def sampling_bytes(policy: Policy, images: int, sampler: SamplerSettings, score: Score) -> int:
    """The most bytes of sampling and scoring `images` images at once, without gradients, all workers' together."""
    once = SamplerSettings(1, sampler.guidance, sampler.eta)
    embeddings = policy.embed([""] * images)

    @torch.no_grad()
    def run(live: LiveTensors) -> None:
        start = policy.initial_latents(_latents(policy, images))
        latents = policy.denoise(start, embeddings, lambda _: _latents(policy, images), once)
        _score(policy, latents, score)

    return _most(policy, run)


def _is_here(reference: str) -> bool:
    """Whether a folder, or what the cache holds of a hub id, has the denoiser's configuration."""
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


def _most(policy: Policy, run: Callable[[LiveTensors], None], later: bool = False) -> int:
    """The peak of `run(live)`, less the gradients that it leaves.

    Args:
        later: of a step's second micro-batch, when gradients are there from the first. In the first they come late, so
            that the peak may be over before they are whole: a difference only where they are large.
    """
    weights = policy.trainable_parameters()
    for weight in weights:
        weight.grad = torch.zeros_like(weight) if later else None
    with policy.meter.paused(), LiveTensors() as live:
        run(live)
    made = 0 if later else sum(weight.grad.nbytes for weight in weights if weight.grad is not None)
    return live.rise - made


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


class _DrySchedule(Schedule):
    """One timestep for all steps: a scheduler would compute them, and here nothing is computed."""

    def timesteps(self, steps: int) -> list[int]:
        return [self.train_timesteps // 2] * steps

    def previous(self, timesteps: Tensor, steps: int) -> Tensor:
        return timesteps - self.train_timesteps // steps


class _Tokeniser:
    """Every prompt as zeros: only the number of tokens matters."""

    def __init__(self, length: int):
        self.model_max_length = length

    def __call__(self, prompt: str, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(1, self.model_max_length, dtype=torch.int64))
