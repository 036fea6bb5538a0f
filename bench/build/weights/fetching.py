"""Fetches weights into the hub's cache, or raises an error that says what a person can do."""

import sys

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars
from rich.filesize import decimal

from bench import console
from bench.build.weights.known import KNOWN_MODELS, OPTIONAL_FILES
from bench.build.weights.needs import Item
from bench.errors import BenchError, cause_of
from bench.sweep.overlay import suggestion


def cache_folder() -> str:
    """The folder of the hub's cache on this machine."""
    return constants.HF_HUB_CACHE


def fetch_item(item: Item) -> None:
    """Fetches an item from the hub.

    Raises:
        BenchError: it cannot be fetched.
    """
    weights = item.weights
    assert weights is not None
    if not sys.stderr.isatty():
        disable_progress_bars()
    console.note(f"fetching {weights.repository}{f', {decimal(weights.size)}' if weights.size else ''}")
    try:
        weights.fetch(optional=OPTIONAL_FILES if item.kind == "model" else ())
    except Exception as error:  # offline, unknown, forbidden, or the disk is full: a person must act
        reason, do = _reason(error, item, weights.option)
        raise BenchError(f"{item.label} cannot be fetched: {reason}", None, do) from error


def _reason(error: Exception, item: Item, option: str) -> tuple[str, str]:
    """Why an item cannot be fetched, and what to do."""
    if isinstance(error, GatedRepoError):
        return "its licence has to be accepted", "accept it on its page on the hub, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        hint = suggestion(item.name, [name for name in KNOWN_MODELS if name != item.name])
        return "the hub knows no such repository", hint or "check the name; a private one needs `hf auth login`"
    if type(error) is FileNotFoundError and item.kind == "model":  # not a subclass, as the hub's client raises
        return str(error), "take a model in StableDiffusionPipeline's layout, as safetensors"
    local = "model: FOLDER" if item.kind == "model" else f"reward: {{name: {item.name}, {option}: PATH}}"
    where = f"fetch it where there is a network and copy the hub cache there into {cache_folder()}"
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else cause_of(error)
    return reason, f"{where}, or name local files, `{local}`"
