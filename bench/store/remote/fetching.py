"""Fetching from a store into a local folder, to resume a run or to read one."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError
from bench.store.remote.manifest import Manifest, Stamp, checkpoint_of, is_checkpoint, is_hash, is_run_file, local_files
from bench.store.remote.place import ListedFile, Place, out_of_reach
from bench.store.run_folder import RunFolder

CONCURRENT_TRANSFERS = 8
RECORDS, CHECKPOINTS, CURVES, REST = range(4)
"""The stages of fetching, in order: files that name others go first."""

T = TypeVar("T")


def records(name: str) -> bool:
    """Whether a file is a record of a trial or of the run, of a few kilobytes."""
    return name.endswith((".yaml", ".json", ".jsonl"))


def trials(name: str) -> bool:
    """Whether a file belongs to the plan or to a trial; reports and `results.parquet` are derived from those."""
    return not name.startswith("report/") and name != "results.parquet"


def numbers(name: str) -> bool:
    """Whether a file is needed for a report."""
    return trials(name) and "/checkpoint/" not in name and "/adapter/" not in name


def everything(name: str) -> bool:
    """True for every file."""
    return True


def open_copy(place: Place, runs: Path, wanted: Callable[[str], bool] = trials) -> RunFolder:
    """Fetches an existing run at `place` into a local copy for reading; see `fetch_copy`.

    Raises:
        BenchError: there is no run, or the store cannot be read.
    """
    run = fetch_copy(place, runs, wanted)
    if not run.exists() and not run.tuning.exists():
        raise BenchError("no run has written here", place.url, "name the URL that `bench run --out` was given")
    return run


def fetch_copy(place: Place, runs: Path, wanted: Callable[[str], bool] = trials) -> RunFolder:
    """Fetches the changed files of a run at `place`, which may not exist yet, into a local copy for reading.

    Args:
        place: the run's store.
        runs: the folder of all runs; the copy is kept in its `.remote/read/`.
        wanted: whether a file, by its path in the run, is needed: `records`, `numbers` or `trials`.

    Raises:
        BenchError: the store cannot be read.
    """
    run = RunFolder(runs / ".remote" / "read" / place.slug, label=place.url)
    try:
        fetch(place, Manifest(run.path), wanted)
    except Exception as error:
        raise out_of_reach(place, "read", error) from error
    return run


def fetch(place: Place, manifest: Manifest, wanted: Callable[[str], bool] = everything) -> None:
    """Makes the wanted files of the manifest's folder equal to the store's.

    The first error ends the fetching; files that were fetched are kept. Files that name others are fetched before them
    (a trial's record, its checkpoints, its curve, its evaluation), and the store is listed again for each stage, so
    that the named files can only be newer. They are older only if a trial is cut back behind a checkpoint meanwhile;
    `TrialFolder.load_checkpoint` then skips the checkpoint, as its point is missing.
    """
    folder = manifest.folder
    listed: dict[str, ListedFile] = {}
    try:
        for stage in (RECORDS, CHECKPOINTS, CURVES, REST):
            if stage == CHECKPOINTS and not any(map(is_checkpoint, listed)):
                continue  # spares a listing: most readers want no checkpoints
            listed = {name: entry for name, entry in place.listing().items() if is_run_file(name) and wanted(name)}
            if stage == RECORDS:
                _remove(manifest, {name for name in local_files(folder) if wanted(name)} - set(listed))
            names = [n for n, e in listed.items() if _stage(n) == stage and not manifest.current(n, e)]
            hashed = {checkpoint_of(name) for name in listed if is_hash(name)}
            finished = [n for n in names if not is_checkpoint(n) or n in hashed]

            def fetch_one(name: str, listed: dict = listed) -> None:
                try:
                    place.download(name, folder / name)
                except FileNotFoundError:
                    return  # its writer removed it in the meantime
                stamp = Stamp.of(folder / name)
                if stamp is not None:
                    manifest.add(name, stamp, listed[name].mark)

            in_parallel(place, fetch_one, finished)
    finally:
        manifest.save()


def in_parallel(place: Place, move: Callable[[T], None], files: Iterable[T]) -> None:
    """Calls `move` for every file, concurrently if the store's client allows it; raises the first error."""
    with ThreadPoolExecutor(CONCURRENT_TRANSFERS if place.fs.async_impl else 1) as pool:
        list(pool.map(move, files))


def _stage(name: str) -> int:
    """The stage in which a file is fetched."""
    last = name.rpartition("/")[2]
    if last in ("plan.json", "trial.json"):
        return RECORDS
    if is_hash(name) or is_checkpoint(name):
        return CHECKPOINTS
    return CURVES if last in ("curve.jsonl", "heartbeat.json") else REST


def _remove(manifest: Manifest, names: set[str]) -> None:
    """Removes local files that the store no longer has."""
    for name in names:
        (manifest.folder / name).unlink(missing_ok=True)
        manifest.drop(name)
