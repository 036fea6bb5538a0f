"""DDIM in the place of the scheduler that a checkpoint came with.

Euler, PNDM, DPM-Solver, DDPM, LCM and their like sample the same forward process, x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε: they
differ in how they go back. DDIM may take their place where it has the same ᾱ, and nowhere else: a flow-matching or EDM
scheduler means a model of another kind.
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from models.sampler import Schedule

PLAIN, ADAPTED = "1", "2"
"""Versions of the sampler, a part of a trial's identity. Raise one when the same settings would give other images."""

READ = (
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
)
"""Keys of a DDIM configuration that decide its images, beside those that `Schedule.fades` tells."""


@dataclass(frozen=True)
class Replacement:
    """How a checkpoint is sampled.

    Attributes:
        schedule: DDIM's.
        notes: what of the checkpoint's own configuration is not followed, a sentence each; none where all is.
        version: `PLAIN` where DDIM reads the file as it stands, with leading spacing; else `ADAPTED`.
    """

    schedule: Schedule
    notes: tuple[str, ...]
    version: str


def ddim(config: Mapping[str, Any], name: str | None = None) -> Replacement:
    """DDIM for a `scheduler_config.json`.

    A checkpoint's own DDIM configuration is followed but for what a latent diffusion model has no use for, as
    `StableDiffusionPipeline` corrects it (diffusers 0.42.1, `__init__`): leading timesteps begin at 1, and x̂_0 is not
    clipped. Another scheduler is replaced by DDIM as Stable Diffusion 1.5 is sampled by it: the chain ends at the first
    ᾱ, so that every step adds noise where eta is above 0. Its `linspace`, which is not DDIM's, becomes `leading`.

    Args:
        config: the file's content.
        name: the scheduler's class, for a configuration without `_class_name`.

    Raises:
        ValueError: the scheduler is unknown, has no ᾱ that DDIM could have, or its model predicts neither ε nor v.
    """
    from diffusers import DDIMScheduler

    own = str(config.get("_class_name") or name or "DDIMScheduler")
    known = inspect.signature(DDIMScheduler.__init__).parameters
    options = {key: value for key, value in config.items() if key in known}
    as_it_stands = {key: options.get(key, known[key].default) for key in READ}
    if own == "DDIMScheduler":
        notes = _correct(options)
        scheduler = _built(DDIMScheduler, options)
    else:
        betas = _original(own, config)
        spacing = "trailing" if options.get("timestep_spacing") == "trailing" else "leading"
        latent = {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False, "thresholding": False}
        scheduler = _replacing({**options, **latent, "timestep_spacing": spacing}, betas)
        notes = [f"its scheduler is {own}: DDIM takes its place, with the same ᾱ and {spacing} spacing"]
    _check_betas(scheduler)
    if name and name not in (own, "DDIMScheduler"):  # the class that diffusers would give the configuration to
        _original(name, config)
        if own == "DDIMScheduler":
            notes.append(f"its model_index.json names {name}: DDIM takes its place, as in its scheduler_config.json")
    schedule = Schedule(scheduler)
    same = all(scheduler.config[key] == value for key, value in as_it_stands.items())
    plain = same and not schedule.fades and scheduler.config.timestep_spacing == "leading"
    return Replacement(schedule, tuple(notes), PLAIN if plain else ADAPTED)


def _correct(options: dict[str, Any]) -> list[str]:
    """Changes a DDIM configuration to what a latent diffusion model needs, and says what was changed.

    A key that is absent means the default of diffusers' `DDIMScheduler`.
    """
    notes = []
    if options.get("timestep_spacing", "leading") == "leading" and options.get("steps_offset", 0) != 1:
        notes.append(
            f"its scheduler's steps_offset is {options.get('steps_offset', 0)} and taken as 1, as diffusers does"
        )
        options["steps_offset"] = 1
    if options.get("clip_sample", True):
        notes.append("its scheduler says clip_sample, but latents are not clipped, as in diffusers' pipeline")
        options["clip_sample"] = False
    if options.get("thresholding", False):
        notes.append("its scheduler says thresholding, which is for pixels; latents are left as they are")
        options["thresholding"] = False
    return notes


def _built(cls: Any, options: Mapping[str, Any]) -> Any:
    try:
        return cls(**options)
    except (ImportError, NotImplementedError, TypeError, ValueError, IndexError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"scheduler: {cls.__name__} cannot be made from its configuration ({why})") from error


def _check_betas(scheduler: Any) -> None:
    betas, count = scheduler.betas, scheduler.config.num_train_timesteps
    if len(betas) != count:
        raise ValueError(f"scheduler: has {len(betas)} trained_betas for {count} num_train_timesteps")
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise ValueError("scheduler: some β is not from 0 to 1; look at beta_start, beta_end and trained_betas")


def _original(own: str, config: Mapping[str, Any]) -> torch.Tensor:
    """β of the checkpoint's own scheduler."""
    import diffusers

    cls = getattr(diffusers, own, None)
    if cls is not None and hasattr(cls, "_backends"):  # what stands for a class that cannot be imported
        needed = " and ".join(name for name in cls._backends if name != "torch")
        raise ValueError(f"scheduler: {own} needs {needed} to be installed, or name another one, as DDIMScheduler")
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise ValueError(
            f"scheduler: {own} is unknown to diffusers {diffusers.__version__}; DDIM cannot take its place"
        )
    flow = config.get("use_flow_sigmas") or str(config.get("prediction_type", "")).startswith("flow")
    if flow or "Flow" in own:
        raise ValueError(f"scheduler: {own} is set for flow matching; a U-Net under DDIM is no flow")
    keys = inspect.signature(cls.__init__).parameters
    scheduler = _built(cls, {key: value for key, value in config.items() if key in keys})
    betas, alphas = getattr(scheduler, "betas", None), getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(betas, torch.Tensor) or not isinstance(alphas, torch.Tensor):
        raise ValueError(f"scheduler: {own} has no ᾱ, so DDIM cannot take its place")
    # Some put a number near zero where a rescaled schedule has zero.
    if not torch.allclose(alphas, torch.cumprod(1 - betas, 0), rtol=1e-4, atol=1e-6):
        raise ValueError(f"scheduler: {own} has another ᾱ than its β give, so DDIM cannot take its place")
    return betas


def _replacing(options: dict[str, Any], betas: torch.Tensor) -> Any:
    """DDIM with these options and these β, for which it may have no name."""
    from diffusers import DDIMScheduler

    scheduler: Any = None
    with suppress(NotImplementedError):
        scheduler = DDIMScheduler(**options)
    if scheduler is not None and torch.allclose(scheduler.betas, betas, rtol=1e-5, atol=1e-8):
        return scheduler
    return _built(DDIMScheduler, {**options, "trained_betas": betas.tolist(), "rescale_betas_zero_snr": False})
