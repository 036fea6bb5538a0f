"""What must be there before the first trial starts, so that it is said once and not by every trial."""

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
    from huggingface_hub import hf_hub_download

    for offline in (True, False):
        try:
            hf_hub_download(reference, "model_index.json", local_files_only=offline, etag_timeout=SECONDS)
            return
        except Exception as error:
            problem = error
    do = "fetch them where there is a network (`hf download` with that id), or name a local folder as `model`"
    raise BenchError(
        f"the weights of {reference} are not on this machine and cannot be fetched", "model", do
    ) from problem
