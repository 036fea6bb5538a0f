"""Store -> local folder: what a run resumes from, and runs opened to be read."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError
from bench.store.remote.manifest import Manifest, Stamp, belongs, checkpoint_of, is_checkpoint, is_hash, local_files
from bench.store.remote.place import Entry, Place, out_of_reach
from bench.store.run_folder import RunFolder

AT_ONCE = 8
RECORDS, CHECKPOINTS, CURVES, REST = range(4)
"""The order of fetching: what names other files goes first."""

T = TypeVar("T")


def records(name: str) -> bool:
    """The files that say how trials stand: a few kilobytes each."""
    return name.endswith((".yaml", ".json", ".jsonl"))


def trials(name: str) -> bool:
    """The plan and all of every trial, without what was made of them."""
    return not name.startswith("report/") and name != "results.parquet"


def numbers(name: str) -> bool:
    """The files that a report is made of."""
    return trials(name) and "/checkpoint/" not in name and "/adapter/" not in name


def everything(name: str) -> bool:
    """Every file."""
    return True


def opened(place: Place, runs: Path, wanted: Callable[[str], bool] = trials) -> RunFolder:
    """A copy of the run at `place`, for reading.

    Raises:
        BenchError: there is no run, or the store cannot be read.
    """
    run = copied(place, runs, wanted)
    if not run.exists() and not run.tuning.exists():
        raise BenchError("no run has written here", place.url, "name the URL that `bench run --out` was given")
    return run


def copied(place: Place, runs: Path, wanted: Callable[[str], bool] = trials) -> RunFolder:
    """The same, of which nothing need be there yet. What changed since the last time is fetched.

    Args:
        runs: the folder of all runs; the copy is kept in its `.remote/read/`.
        wanted: which files are needed, by their path in the run: `records`, `numbers` or `trials`.
    """
    run = RunFolder(runs / ".remote" / "read" / place.slug, label=place.url)
    try:
        fetch(place, Manifest(run.path), wanted)
    except Exception as error:
        raise out_of_reach(place, "read", error) from error
    return run


def fetch(place: Place, manifest: Manifest, wanted: Callable[[str], bool] = everything) -> None:
    """Makes the wanted files of the folder those of the store. The first error ends it; what was fetched is kept.

    What names other files is fetched before them, so that they can only be newer: a trial's record, its checkpoints,
    its curve, its evaluation. The store is listed again for each. Only a trial that goes back behind a checkpoint makes
    them older; whoever reads it in that moment has a checkpoint too new, which `TrialFolder.load_checkpoint` passes by.
    """
    folder = manifest.folder
    listed: dict[str, Entry] = {}
    try:
        for stage in (RECORDS, CHECKPOINTS, CURVES, REST):
            if stage == CHECKPOINTS and not any(map(is_checkpoint, listed)):
                continue  # most readers want none
            listed = {name: entry for name, entry in place.listing().items() if belongs(name) and wanted(name)}
            if stage == RECORDS:
                _forget(manifest, {name for name in local_files(folder) if wanted(name)} - set(listed))
            names = [n for n, e in listed.items() if _stage(n) == stage and not manifest.current(n, e)]
            whole = {checkpoint_of(name) for name in listed if is_hash(name)}
            finished = [n for n in names if not is_checkpoint(n) or n in whole]

            def one(name: str, listed: dict = listed) -> None:
                try:
                    place.download(name, folder / name)
                except FileNotFoundError:
                    return  # its writer removed it in the meantime
                stamp = Stamp.of(folder / name)
                if stamp is not None:
                    manifest.add(name, stamp, listed[name].mark)

            in_parallel(place, one, finished)
    finally:
        manifest.save()


def in_parallel(place: Place, move: Callable[[T], None], files: Iterable[T]) -> None:
    """Moves files, several at once where the store's client can; the first error is raised."""
    with ThreadPoolExecutor(AT_ONCE if place.fs.async_impl else 1) as pool:
        list(pool.map(move, files))


def _stage(name: str) -> int:
    last = name.rpartition("/")[2]
    if last in ("plan.json", "trial.json"):
        return RECORDS
    if is_hash(name) or is_checkpoint(name):
        return CHECKPOINTS
    return CURVES if last in ("curve.jsonl", "heartbeat.json") else REST


def _forget(manifest: Manifest, names: set[str]) -> None:
    for name in names:
        (manifest.folder / name).unlink(missing_ok=True)
        manifest.drop(name)
