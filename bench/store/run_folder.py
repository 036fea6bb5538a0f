"""The run's folder: `sweep.yaml`, `plan.json`, `trials/`, `results.parquet`, `report/`.

Everything that a report or a gate reads comes from here; workers write their own trial's folder and nothing else.
"""

import fcntl
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import ValidationError
from ruamel.yaml import YAML

from bench.build.trial_spec import Trial, flat_settings
from bench.errors import BenchError, LockedError
from bench.store.files import UNFINISHED, remove_unfinished, write_atomically, write_json, write_text
from bench.store.frames import Tidy, read_evaluations
from bench.store.locking import holder, sign
from bench.store.plan_file import recovered_plan, row_of
from bench.store.provenance import this_command
from bench.store.records import PlannedTrial, PlanRecord, Point, TrialRecord, WholePlan, read_record, wrong_plan
from bench.store.settled import of_evaluation
from bench.store.trial_folder import TrialFolder
from bench.sweep.yaml_source import read_yaml

TUNING = "tuning"


@dataclass
class StoredTrial:
    """A planned trial with what its folder holds.

    Attributes:
        planned: its row of the plan.
        record: its `trial.json`, with what its files show of the status now.
        curve: its points.
        damage: what is and was the matter with its files.
    """

    planned: PlannedTrial
    record: TrialRecord
    curve: list[Point]
    damage: list[str]

    @property
    def key(self) -> str:
        """The trial's name, and its folder's."""
        return self.planned.trial

    @property
    def axes(self) -> dict[str, int | float]:
        """What it has spent so far, by the meter's axes."""
        return self.curve[-1].axes if self.curve else {}

    def row(self) -> dict[str, Any]:
        """The trial as a row of a frame: its record, its plan, its axes and its number of points.

        For `spec` it has `settings`: a spec is several kilobytes, and a report asks for no more.
        """
        record = self.record.model_dump(exclude_unset=True, exclude={"version", "spec"})
        status, settings = str(self.record.status), flat_settings(self.record.spec)
        own = {"status": status, "settings": settings, "damage": self.damage}
        return {**record, **own, **self.planned.stored(), "axes": self.axes, "points": len(self.curve)}


class RunFolder:
    """`runs/<name>/`.

    Args:
        path: the folder.
        label: what a person calls it: its path, or the URL that it is a copy of.
    """

    def __init__(self, path: Path, label: str | None = None):
        self.path = Path(path).absolute()
        self.label = label or str(self.path)
        self.sweep_path = self.path / "sweep.yaml"
        self.results_path = self.path / "results.parquet"
        self.report = self.path / "report"
        self.trials_path = self.path / "trials"
        self.scratch = self.path / ".ray"  # what Ray keeps while a run of several machines lasts
        self._plan = self.path / "plan.json"

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """A folder that a run has written.

        Raises:
            BenchError: there is none.
        """
        run = cls(path)
        if not run.exists():
            what = "there is no such folder" if not run.path.exists() else "no run has written here"
            raise BenchError(what, str(path), "name a run's folder such as runs/aesthetic, or a sweep that has run")
        return run

    @property
    def tuning(self) -> "RunFolder":
        """Where the run's methods are tuned, a run like any other."""
        return RunFolder(self.path / TUNING)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One `bench run` a folder.

        Raises:
            LockedError: another one holds it.
        """

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            who = holder(self.path / ".lock")
            what = f"another `bench run` is writing here{who}"
            raise LockedError(what, str(self.path), "wait for it, stop it, or use --out") from None
        except OSError as error:
            raise BenchError(f"cannot be written ({error.strerror})", str(self.path), "choose another --out") from None
        try:
            sign(self.path / ".lock", this_command())
            remove_unfinished([*self.path.glob(UNFINISHED), *self.report.rglob(UNFINISHED)])
            yield
        finally:
            lock.release()

    def locked(self) -> bool:
        """Whether a `bench run` is writing here; False where this machine cannot tell."""
        try:
            with (self.path / ".lock").open("rb") as file:
                # Shared and for a moment only: of two that look at once, neither must think that the other is a run.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exists(self) -> bool:
        """Whether a run has written here."""
        # The plan is written before the first trial, so where there are trials it is lost.
        return self._plan.exists() or (self.sweep_path.exists() and self.trials_path.is_dir())

    def latest(self) -> "RunFolder":
        """The run, or its tuning where that was planned after it: `bench run` is at it, or was when it stopped."""
        return self.tuning if self.tuning._planned_at() > self._planned_at() else self

    def _planned_at(self) -> float:
        """When the plan was written, in seconds since 1970; 0 where it does not say, −1 where there is none.

        Not the file's own time, which is another one in a copy.
        """
        if not self.exists():
            return -1.0
        try:
            return float(self.about().written)
        except BenchError:  # whoever reads the run gets this error
            return 0.0

    # -- the plan -----------------------------------------------------------------------------------------------

    def write_plan(self, sweep: dict[str, Any], trials: Sequence[Trial], **about: Any) -> None:
        """Stores the resolved sweep and the trials that belong to it now.

        Folders of trials that an earlier version of the sweep planned stay on the disk and leave the results.
        """
        rows = list(map(row_of, trials))
        self.write_planned(sweep, rows, **about)

    def write_planned(self, sweep: dict[str, Any], rows: Sequence[PlannedTrial], **about: Any) -> None:
        """The same from rows as `planned` gives them."""
        text = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(sweep, text)
        self.path.mkdir(parents=True, exist_ok=True)
        comment = "# Resolved by `bench run`; `bench run` on this file runs the same trials.\n"
        write_text(self.sweep_path, comment + text.getvalue())
        plan = PlanRecord.model_validate({**about, "written": time.time(), "trials": list(rows)})
        write_json(self._plan, plan.stored())

    def planned(self) -> list[PlannedTrial]:
        """The planned trials."""
        return self.about().trials

    def about(self) -> PlanRecord:
        """All of `plan.json`; where it is damaged, what the trials say of it, with a word of that as `damage`.

        Raises:
            BenchError: it is damaged, and no trial can say; or a later version of the package wrote it.
        """
        found = read_record(self._plan)
        try:
            return PlanRecord.model_validate(found)
        except ValidationError as error:
            return self._recovered(wrong_plan(found, error))

    def described(self) -> WholePlan:
        """`about` with all that a report takes: a plan that lacks some of it is damaged too."""
        found = self.about().model_dump(exclude_unset=True)
        try:
            return WholePlan.model_validate(found)
        except ValidationError as error:
            return WholePlan.model_validate(self._recovered(wrong_plan(found, error)).model_dump(exclude_unset=True))

    def _recovered(self, wrong: str) -> PlanRecord:
        what = wrong if self._plan.exists() else "is missing"
        records = (self.trial(path.name).read() for path in sorted(self.trials_path.glob("*/")))
        found = recovered_plan(self.sweep_path, records, what)
        if found is None:
            do = "the `bench run` that wrote it writes it again; finished trials are kept"
            raise BenchError(what, str(self._plan), do)
        return found

    def sweep(self) -> dict[str, Any]:
        """All of `sweep.yaml`.

        Raises:
            BenchError: it is damaged or missing.
        """

        do = "the `bench run` that wrote it writes it again; finished trials are kept"
        try:
            found = read_yaml(self.sweep_path).plain()
        except BenchError as error:
            raise BenchError(error.what, str(self.sweep_path), do) from None
        kinds = {"resources": dict, "methods": list}
        lacking = [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]
        if lacking:
            raise BenchError(f"has no {lacking[0]}", str(self.sweep_path), do)
        return found

    def trial(self, key: str) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(self.trials_path / key)

    # -- results ------------------------------------------------------------------------------------------------

    def trials(self) -> list[StoredTrial]:
        """Every planned trial, each of its files read once."""
        found = []
        for planned in self.planned():
            folder = self.trial(planned.trial)
            # The status first: it is written after the points that it speaks of, so none of them is missing then.
            record = folder.read()
            found.append(StoredTrial(planned, record, folder.read_curve(), folder.problems()))
        return found

    def results(self) -> pd.DataFrame:
        """The tidy frame: one row per (trial, point, split, metric), with every axis of the meter."""
        return self.gather()[0]

    def gather(self) -> tuple[pd.DataFrame, list[StoredTrial]]:
        """`results` and `trials` from one reading of every trial's files."""

        tidy, trials = Tidy(), self.trials()
        for trial in trials:
            tidy.add(trial.planned, trial.record.status, trial.curve)
        return tidy.frame(), trials

    def write_results(self, frame: pd.DataFrame | None = None) -> pd.DataFrame:
        """Writes and returns `results.parquet`: `frame`, or `results` where it is left out."""
        found = self.results() if frame is None else frame
        write_atomically(self.results_path, lambda temporary: found.to_parquet(temporary, index=False))
        return found

    def evaluation(self, trials: list[StoredTrial] | None = None) -> pd.DataFrame:
        """Every trial's evaluation: one row per (trial, point, split, metric, prompt, sample).

        Words are categories in alphabetical order: ten million rows take half a gigabyte. A file that is damaged is
        left out, and is added to its trial's `damage`.

        Args:
            trials: as `trials` or `gather` give them.
        """

        trials = self.trials() if trials is None else trials
        known = {trial.key: trial for trial in trials}

        def judge(key: str, table: Any, why: str) -> bool:
            found = of_evaluation(known[key].record, None if table is None else len(table), why)
            if found:
                known[key].damage.append(str(found))
            return not found

        return read_evaluations([(trial.planned, self.trial(trial.key).evaluation_path) for trial in trials], judge)
