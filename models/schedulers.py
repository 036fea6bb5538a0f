"""Replaces the scheduler of a checkpoint by DDIM.

Euler, PNDM, DPM-Solver, DDPM, LCM and similar schedulers share one forward process, x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, and
differ in how they reverse it. DDIM can replace a scheduler that has the same ᾱ, and no other: a flow-matching or EDM
scheduler means a model of another kind.
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from models.paths.ddim import DDIM

PLAIN, ADAPTED = "1", "2"
"""Versions of the sampler, which are part of a trial's identity. Raise one when the same settings give other images."""

READ = (
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
)
"""Keys of a DDIM configuration that decide its images, besides those that decide `DDIM.fades`."""


@dataclass(frozen=True)
class Replacement:
    """The DDIM process that samples a checkpoint.

    Attributes:
        path: the noise process, with DDIM's timesteps.
        notes: one sentence for each part of the checkpoint's own configuration that is not followed.
        version: `PLAIN` if DDIM follows the checkpoint's file exactly, with leading spacing; else `ADAPTED`.
    """

    path: DDIM
    notes: tuple[str, ...]
    version: str


def ddim(config: Mapping[str, Any], name: str | None = None) -> Replacement:
    """Builds DDIM for the scheduler in a `scheduler_config.json`.

    A DDIM configuration is followed, with the corrections that `StableDiffusionPipeline` makes for latent diffusion
    (diffusers 0.42.1, `__init__`): leading timesteps begin at 1, and x̂_0 is not clipped. Another scheduler is replaced
    by DDIM with the options of Stable Diffusion 1.5: the chain ends at the first ᾱ, so that every step adds noise if
    eta is above 0. The spacing `linspace` of another scheduler differs from DDIM's, so it becomes `leading`.

    Args:
        config: content of the file.
        name: class of the scheduler, for a configuration without `_class_name`.

    Raises:
        ValueError: the scheduler is unknown, has an ᾱ that DDIM cannot have, or its model predicts neither ε nor v.
    """
    from diffusers import DDIMScheduler

    own = str(config.get("_class_name") or name or "DDIMScheduler")
    parameters = inspect.signature(DDIMScheduler.__init__).parameters
    options = {key: value for key, value in config.items() if key in parameters}
    uncorrected = {key: options.get(key, parameters[key].default) for key in READ}
    if own == "DDIMScheduler":
        notes = _correct(options)
        scheduler = _built(DDIMScheduler, options)
    else:
        betas = _own_betas(own, config)
        spacing = "trailing" if options.get("timestep_spacing") == "trailing" else "leading"
        latent = {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False, "thresholding": False}
        scheduler = _ddim_with({**options, **latent, "timestep_spacing": spacing}, betas)
        notes = [f"its scheduler is {own}: DDIM takes its place, with the same ᾱ and {spacing} spacing"]
    _check_betas(scheduler)
    if name and name not in (own, "DDIMScheduler"):  # diffusers would build this class from the configuration
        _own_betas(name, config)
        if own == "DDIMScheduler":
            notes.append(f"its model_index.json names {name}: DDIM takes its place, as in its scheduler_config.json")
    path = DDIM(scheduler)
    same = all(scheduler.config[key] == value for key, value in uncorrected.items())
    plain = same and not path.fades and scheduler.config.timestep_spacing == "leading"
    return Replacement(path, tuple(notes), PLAIN if plain else ADAPTED)


def _correct(options: dict[str, Any]) -> list[str]:
    """Corrects the options of a DDIM configuration in place for latent diffusion; returns one note for each change.

    An absent option has the default of diffusers' `DDIMScheduler`.
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


def _own_betas(own: str, config: Mapping[str, Any]) -> torch.Tensor:
    """β of the checkpoint's own scheduler, of the diffusers class `own`; `ValueError` if DDIM cannot have its ᾱ."""
    import diffusers

    cls = getattr(diffusers, own, None)
    if cls is not None and hasattr(cls, "_backends"):  # diffusers' placeholder for a class that cannot be imported
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
    # Some schedulers replace the zero of a rescaled schedule by a number near zero.
    if not torch.allclose(alphas, torch.cumprod(1 - betas, 0), rtol=1e-4, atol=1e-6):
        raise ValueError(f"scheduler: {own} has another ᾱ than its β give, so DDIM cannot take its place")
    return betas


def _ddim_with(options: dict[str, Any], betas: torch.Tensor) -> Any:
    """DDIM with these options and these β, given as `trained_betas` if no `beta_schedule` of DDIM yields them."""
    from diffusers import DDIMScheduler

    scheduler: Any = None
    with suppress(NotImplementedError):
        scheduler = DDIMScheduler(**options)
    if scheduler is not None and torch.allclose(scheduler.betas, betas, rtol=1e-5, atol=1e-8):
        return scheduler
    return _built(DDIMScheduler, {**options, "trained_betas": betas.tolist(), "rescale_betas_zero_snr": False})
