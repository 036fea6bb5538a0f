"""What must be there before the first trial starts, so that it is said once and not by every trial."""

import os
from pathlib import Path

from bench.errors import BenchError

SECONDS = 10.0


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
        do = f"fetch them where there is a network (`hf download {reference}`), or name a local folder as `model`"
        what = f"the weights of {reference} are not on this machine and cannot be fetched"
        raise BenchError(what, "model", do) from error
