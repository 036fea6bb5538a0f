"""Fetches what is needed into the hub's cache, or says why it cannot and what a person can do."""

import sys
from collections.abc import Sequence

from bench import console
from bench.build.weights.known import WHERE_THERE
from bench.build.weights.needs import Item, described, models_in_sweeps
from bench.errors import BenchError, cause_of
from bench.sweep.overlay import suggestion

SECONDS = 10.0


def cache_folder() -> str:
    """The hub's cache on this machine."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def fetch_item(item: Item, label: str, wanted: Sequence[Item]) -> None:
    """Fetches an item from the hub.

    Args:
        item: what to fetch.
        label: what it is called in an error.
        wanted: all that is to be fetched: what is to be done by hand is said once, for all that the name lacks.

    Raises:
        BenchError: it cannot be fetched.
    """
    try:
        _download(item)
    except BenchError:
        raise
    except Exception as error:  # offline, unknown, forbidden, no room: a person has to do something
        absent = [other for other in wanted if other.name == item.name and not described(other)["complete"]]
        reason, do = _reason(error, item.name)
        raise BenchError(f"{label} cannot be fetched: {reason}", None, do or _by_hand(absent)) from error


def _download(item: Item) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import disable_progress_bars
    from rich.filesize import decimal

    assert item.weights is not None
    repository, files = item.weights.repository, item.weights.files
    # Asks once: a download would retry for half a minute. It also tells what is there before gigabytes are moved.
    there = {file.rfilename for file in HfApi().model_info(repository, timeout=SECONDS).siblings or ()}
    absent = [name for name in files if name not in there]
    if absent:
        layout = "; a run reads StableDiffusionPipeline's layout, as safetensors" if item.kind == "model" else ""
        raise BenchError(f"{repository} has no {', '.join(absent)}{layout}")
    if not sys.stderr.isatty():
        disable_progress_bars()
    console.note(f"fetching {repository}{f', {decimal(item.weights.size)}' if item.weights.size else ''}")
    # All at once, so that they are of one revision.
    snapshot_download(repository, allow_patterns=[*files, *(WHERE_THERE if item.kind == "model" else ())])


def _reason(error: Exception, name: str) -> tuple[str, str | None]:
    """Why it cannot be fetched; what to do, where fetching by hand would fail too."""
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
    """What to do about one name's items where the hub cannot be had."""
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
    return f"run `{run}` where there is a network and copy what it adds to its hub cache into {where}, or {instead}"
