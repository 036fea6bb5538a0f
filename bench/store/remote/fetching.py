"""Fetching from a store into a local folder, to resume a run or to read one."""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bench.store.checkpoints import point_of
from bench.store.remote.manifest import Manifest, is_run_file, local_files, stamp_of, unfinished
from bench.store.remote.place import ListedFile, Place, out_of_reach
from bench.store.run_folder import RunFolder

CONCURRENT_TRANSFERS = 8
RECORD, CHECKPOINT, CURVE, REST = range(4)
"""The stages of fetching, in order: files that name others go first."""

EVERYTHING = re.compile(r".*")
RECORDS = re.compile(r".*\.(yaml|json|jsonl)")
"""Paths of the records of a run and its trials, of a few kilobytes each."""
TRIALS = re.compile(r"(?!report/|results\.parquet).*")
"""Paths of the plan and of all files of trials; reports and `results.parquet` are derived from those."""
NUMBERS = re.compile(rf"(?!.*/(checkpoint|adapter)/){TRIALS.pattern}")
"""Paths of the files that a report needs."""

T = TypeVar("T")


def fetch_copy(place: Place, runs: Path, wanted: re.Pattern[str]) -> RunFolder:
    """Fetches the changed files of a run at `place`, which may not exist yet, into a local copy for reading.

    Args:
        place: the run's store.
        runs: the folder of all runs; the copy is kept in its `.remote/read/`.
        wanted: the paths, in the run, of the files that are needed: `RECORDS`, `NUMBERS` or `TRIALS`.

    Raises:
        BenchError: the store cannot be read.
    """
    run = RunFolder(runs / ".remote" / "read" / place.slug, label=place.url)
    try:
        fetch(place, Manifest(run.path), wanted)
    except Exception as error:
        raise out_of_reach(place.url, "read", error) from error
    return run


def fetch(place: Place, manifest: Manifest, wanted: re.Pattern[str] = EVERYTHING) -> None:
    """Makes the wanted files of the manifest's folder equal to the store's.

    The first error ends the fetching; files that were fetched are kept. Files that name others are fetched before them
    (a trial's record, its checkpoints, its curve, its evaluation), and the store is listed again after the records, so
    that the named files are there and can only be newer. They are older only if a trial is cut back behind a checkpoint
    meanwhile; `TrialFolder.load_checkpoint` then skips the checkpoint, as its point is missing.
    """
    folder, listed = manifest.folder, dict[str, ListedFile]()

    def fetch_one(name: str) -> None:
        try:
            place.download(name, folder / name)
        except FileNotFoundError:
            return  # its writer removed it in the meantime
        if stamp := stamp_of(folder / name):
            manifest.add(name, stamp, listed[name].mark)

    try:
        for stage in (RECORD, CHECKPOINT, CURVE, REST):
            if stage in (RECORD, CHECKPOINT):
                there = {name: e for name, e in place.listing().items() if is_run_file(name) and wanted.fullmatch(name)}
                left_out = unfinished(there)
                listed = {name: entry for name, entry in there.items() if name not in left_out}
            if stage == RECORD:
                for name in filter(wanted.fullmatch, local_files(folder)):
                    if name not in listed:  # the store no longer has it
                        (folder / name).unlink(missing_ok=True)
                        manifest.drop(name)
            names = [n for n, entry in listed.items() if _stage(n) == stage and not manifest.current(n, entry)]
            in_parallel(place, fetch_one, names)
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
        return RECORD
    if point_of(name) >= 0:
        return CHECKPOINT
    return CURVE if last in ("curve.jsonl", "heartbeat.json") else REST
