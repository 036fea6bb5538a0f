"""Fetches weights into the hub's cache, or raises an error that says what a person can do."""

import sys
from collections.abc import Sequence

from bench import console
from bench.build.weights.known import OPTIONAL_FILES
from bench.build.weights.needs import Item, described, models_in_sweeps
from bench.errors import BenchError, cause_of
from bench.sweep.overlay import suggestion

HUB_SECONDS = 10.0
"""Seconds that the hub has to answer."""


def cache_folder() -> str:
    """The folder of the hub's cache on this machine."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def fetch_item(item: Item, label: str, wanted: Sequence[Item]) -> None:
    """Fetches an item from the hub.

    Args:
        item: what to fetch.
        label: the item's name in an error.
        wanted: all items to be fetched; the error names the commands for all of them with this item's name.

    Raises:
        BenchError: it cannot be fetched.
    """
    try:
        _download(item)
    except BenchError:
        raise
    except Exception as error:  # offline, unknown, forbidden, or the disk is full: a person must act
        absent = [other for other in wanted if other.name == item.name and not described(other)["complete"]]
        reason, do = _reason(error, item.name)
        raise BenchError(f"{label} cannot be fetched: {reason}", None, do or _by_hand(absent)) from error


def _download(item: Item) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import disable_progress_bars
    from rich.filesize import decimal

    assert item.weights is not None
    repository, files = item.weights.repository, item.weights.files
    # One request, as a download would retry for half a minute; it also lists the files before gigabytes are moved.
    available = {file.rfilename for file in HfApi().model_info(repository, timeout=HUB_SECONDS).siblings or ()}
    absent = [name for name in files if name not in available]
    if absent:
        layout = "; a run reads StableDiffusionPipeline's layout, as safetensors" if item.kind == "model" else ""
        raise BenchError(f"{repository} has no {', '.join(absent)}{layout}")
    if not sys.stderr.isatty():
        disable_progress_bars()
    console.note(f"fetching {repository}{f', {decimal(item.weights.size)}' if item.weights.size else ''}")
    # All files in one call, so that they are of one revision.
    snapshot_download(repository, allow_patterns=[*files, *(OPTIONAL_FILES if item.kind == "model" else ())])


def _reason(error: Exception, name: str) -> tuple[str, str | None]:
    """Why an item cannot be fetched, and what to do if fetching it by hand would fail too."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set", None
    if isinstance(error, GatedRepoError):
        return "its licence has to be accepted", "accept it on its page on the hub, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        others = [other for other in models_in_sweeps() if other != name]
        hint = suggestion(name, others) or "check the name; a private one needs `hf auth login`"
        return "the hub knows no such repository", hint
    return cause_of(error), None


def _by_hand(absent: Sequence[Item]) -> str:
    """What a person can do about the missing items of one name if this machine does not reach the hub."""
    name, needs = absent[0].name, [item.weights for item in absent if item.weights is not None]
    run = " && ".join(f"hf download {need.repository} {' '.join(need.files)}" for need in needs)
    if absent[0].kind == "model":
        instead = "name a folder in StableDiffusionPipeline layout as `model`"
    else:
        options = ", ".join(f"{need.option}: PATH" for need in needs)
        instead = f"name local ones: reward: {{name: {name}, {options}}}"
    if absent[0].kind == "model" or len(run) > 200:
        run = f"bench weights fetch {name}"
    where = cache_folder()
    return (
        f"run `{run}` where there is a network and copy what it adds to the hub cache there into {where}, or {instead}"
    )
