"""Checks before the first trial starts: model, GPUs and packages, so that one error replaces one from every trial."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.build.plugins import load_method, names_family
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from methods.base import Method

DISTRIBUTION = "alignprop-bench"

HUB_SECONDS = 10.0
"""Seconds that the hub has to answer."""

TRACKERS = {"wandb": "wandb>=0.19", "mlflow": "mlflow>=2.14", "trackio": "trackio>=0.5"}


def check_model(reference: str) -> None:
    """Checks that a hub model is in the cache or can be fetched; the planner has checked local folders.

    Raises:
        BenchError: the model is not in the cache and cannot be fetched.
    """
    if Path(reference).is_dir() or names_family(reference):
        return
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(reference, "model_index.json"), str | os.PathLike):
        return
    try:
        HfApi().model_info(reference, timeout=HUB_SECONDS)
    except Exception as error:
        fetch = f"bench weights fetch {reference}"
        do = f"fetch them where there is a network (`{fetch}`), or name a local folder as `model`"
        what = f"the weights of {reference} are not on this machine and cannot be fetched"
        raise BenchError(what, "model", do) from error


def usable_gpus(needed: float) -> int:
    """The number of GPUs that this process sees; 0, without looking, if a trial needs none.

    Args:
        needed: GPUs of one trial.

    Raises:
        BenchError: there are fewer GPUs than `needed`.
    """
    if needed <= 0:
        return 0
    import torch

    gpus = torch.cuda.device_count()
    refuse_more_gpus(needed, gpus)
    return gpus


def refuse_more_gpus(needed: float, gpus: float, where: str = "this machine") -> None:
    """Raises `BenchError` if a trial needs more GPUs than the `gpus` of the machine or cluster."""
    if needed > gpus:
        what = f"a trial needs {needed:g} GPU{'' if needed == 1 else 's'} and {where} has {gpus:g}"
        raise BenchError(what, "resources.gpus", "--set resources.gpus=0 runs on the CPU")


def check_deepspeed(stage: int) -> None:
    """Raises `BenchError` if the ZeRO stage is above 0 and DeepSpeed is not installed."""
    lacking = missing_requirement(("deepspeed>=0.17",)) if stage else None
    if lacking:
        raise BenchError(f"stage {stage} {lacking}", "resources.zero")


def check_tracker(name: str) -> None:
    """Raises `BenchError` if the package of a tracker that the sweep names is not installed."""
    lacking = missing_requirement((TRACKERS[name],))
    if lacking:
        raise BenchError(f"{name} {lacking}")


def reason_to_skip(trial: Trial) -> str | None:
    """Why the trial is not to run: its own reason, or a requirement of its method that is not met; None if it is."""
    return trial.skip or missing_requirement(load_method(trial.reference).requires)


def check_requirements(cls: type[Method]) -> None:
    """Raises `BenchError` if a package that the method needs is not installed."""
    lacking = missing_requirement(cls.requires)
    if lacking:
        raise BenchError(f"{cls.name} {lacking}")


def missing_requirement(requirements: Sequence[str]) -> str | None:
    """The first requirement that is not met, as "needs X: pip install Y"; None if all are met.

    Args:
        requirements: in pip's notation: `trl==0.23.1`.
    """
    for text in requirements:
        wanted = Requirement(text)
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = None
        if installed is None or not wanted.specifier.contains(installed, prereleases=True):
            has = f" ({installed} is installed)" if installed else ""
            return f"needs {text}{has}: pip install '{_extra_with(wanted.name) or text}'"
    return None


def _extra_with(name: str) -> str | None:
    """The extra of this project that installs a package, as `alignprop-bench[peers]`; None if no extra does."""
    try:
        declared = [Requirement(text) for text in requires(DISTRIBUTION) or []]
    except PackageNotFoundError:  # run from the sources, without an installation
        return None
    for requirement in declared:
        if canonicalize_name(requirement.name) == canonicalize_name(name) and requirement.marker:
            extra = str(requirement.marker).rpartition("extra == ")[2].strip("\"'")
            return f"{DISTRIBUTION}[{extra}]"
    return None
