"""What must be there before the first trial starts, so that it is said once and not by every trial."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from methods.base import Method

DISTRIBUTION = "alignprop-bench"

SECONDS = 10.0

TRACKERS = {"wandb": "wandb>=0.19", "mlflow": "mlflow>=2.14", "trackio": "trackio>=0.5"}


def check_model(reference: str) -> None:
    """Whether a hub model is in the cache or can be fetched; a local folder was looked at when the sweep was planned.

    Raises:
        BenchError: neither.
    """
    if Path(reference).is_dir():
        return
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(reference, "model_index.json"), str | os.PathLike):
        return
    try:
        HfApi().model_info(reference, timeout=SECONDS)
    except Exception as error:
        fetch = f"bench weights fetch {reference}"
        do = f"fetch them where there is a network (`{fetch}`), or name a local folder as `model`"
        what = f"the weights of {reference} are not on this machine and cannot be fetched"
        raise BenchError(what, "model", do) from error


def usable_gpus(asked: float) -> int:
    """GPUs that this process sees.

    Raises:
        BenchError: they are fewer than `asked`, a trial's; none are needed where it asks for none.
    """
    if asked <= 0:
        return 0
    import torch

    gpus = torch.cuda.device_count()
    refuse_more_gpus(asked, gpus)
    return gpus


def refuse_more_gpus(asked: float, gpus: float, where: str = "this machine") -> None:
    """Raises `BenchError` where a trial asks for more GPUs than there are."""
    if asked > gpus:
        what = f"{asked:g} GPUs a trial are asked for and {where} has {gpus:g}"
        raise BenchError(what, "resources.gpus", "--set resources.gpus=0 runs on the CPU")


def check_deepspeed(stage: int) -> None:
    """Raises `BenchError` where a stage of ZeRO is asked for and DeepSpeed is not installed."""
    lacking = missing_requirement(("deepspeed>=0.17",)) if stage else None
    if lacking:
        raise BenchError(f"stage {stage} {lacking}", "resources.zero")


def check_tracker(name: str) -> None:
    """Raises `BenchError` where the package of a service that is asked for under `track` is not installed."""
    lacking = missing_requirement((TRACKERS[name],))
    if lacking:
        raise BenchError(f"{name} {lacking}")


def reason_to_skip(trial: Trial) -> str | None:
    """What its method needs and this environment lacks; None where nothing."""
    return missing_requirement(load_method(trial.reference).requires)


def check_requirements(cls: type[Method]) -> None:
    """Raises `BenchError` where a distribution that the method needs is not installed."""
    lacking = missing_requirement(cls.requires)
    if lacking:
        raise BenchError(f"{cls.name} {lacking}")


def missing_requirement(requirements: Sequence[str]) -> str | None:
    """The first requirement that is not met, as "needs X: pip install Y"; None where all are.

    Args:
        requirements: as pip takes them, with versions where they matter: `trl==0.23.1`.
    """

    for text in requirements:
        wanted = Requirement(text)
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = None
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            has = f" ({found} is installed)" if found else ""
            return f"needs {text}{has}: pip install '{_extra_with(wanted.name) or text}'"
    return None


def _extra_with(name: str) -> str | None:
    """Our extra that brings the distribution, `alignprop-bench[peers]`; None where there is none."""
    try:
        declared = [Requirement(text) for text in requires(DISTRIBUTION) or []]
    except PackageNotFoundError:  # run from the sources, without an installation
        return None
    for each in declared:
        if canonicalize_name(each.name) == canonicalize_name(name) and each.marker:
            extra = str(each.marker).rpartition("extra == ")[2].strip("\"'")
            return f"{DISTRIBUTION}[{extra}]"
    return None
