"""The run's folder: `sweep.yaml`, `plan.json`, `trials/`, `results.parquet`, `report/`.

Reports and gates read a run through `RunFolder` only; a worker writes nothing but its own trial's folder.
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
from bench.store.recovery import evaluation_damage
from bench.store.trial_folder import TrialFolder
from bench.sweep.yaml_source import read_yaml

TUNING = "tuning"
"""The name of the folder, inside a run's folder, of the run that tunes its methods."""


@dataclass
class StoredTrial:
    """A planned trial, with the record and the curve in its folder.

    Attributes:
        planned: the trial's row of the plan.
        record: the trial's record, with its current status (see `TrialFolder.read`).
        curve: the points of the trial's curve.
        damage: sentences about present and mended damage to the trial's files.
    """

    planned: PlannedTrial
    record: TrialRecord
    curve: list[Point]
    damage: list[str]

    @property
    def key(self) -> str:
        """The name of the trial and of its folder."""
        return self.planned.trial

    @property
    def axes(self) -> dict[str, int | float]:
        """Axis of the meter -> amount that the trial has spent so far."""
        return self.curve[-1].axes if self.curve else {}

    def row(self) -> dict[str, Any]:
        """The trial as a row of a frame: its record, its row of the plan, its axes and its number of points.

        The record's `spec`, several kilobytes, is replaced by `settings`, which is all that a report needs.
        """
        record = self.record.model_dump(exclude_unset=True, exclude={"version", "spec"})
        status, settings = str(self.record.status), flat_settings(self.record.spec)
        own = {"status": status, "settings": settings, "damage": self.damage}
        return {**record, **own, **self.planned.stored(), "axes": self.axes, "points": len(self.curve)}


class RunFolder:
    """The folder of a run, `runs/<name>/`.

    Args:
        path: the folder.
        label: the run's name in messages; its path by default, or the URL of which the folder is a copy.
    """

    def __init__(self, path: Path, label: str | None = None):
        self.path = Path(path).absolute()
        self.label = label or str(self.path)
        self.sweep_path = self.path / "sweep.yaml"
        self.results_path = self.path / "results.parquet"
        self.report = self.path / "report"
        self.trials_path = self.path / "trials"
        self.scratch = self.path / ".ray"  # Ray's files while a run on several machines lasts
        self._plan = self.path / "plan.json"

    @classmethod
    def open(cls, path: Path, label: str | None = None) -> "RunFolder":
        """The folder of an existing run; `label` is its name in messages.

        Raises:
            BenchError: there is no run at `path`.
        """
        run = cls(path, label)
        if not run.exists():
            what = "there is no such folder" if not run.path.exists() else "no run has written here"
            do = "name a run's folder such as runs/aesthetic, or a sweep that has run"
            raise BenchError(what, label or str(path), do)
        return run

    @property
    def tuning(self) -> "RunFolder":
        """The folder of the run that tunes this run's methods."""
        return RunFolder(self.path / TUNING)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder, so that only one `bench run` writes it.

        Raises:
            LockedError: another `bench run` holds the lock.
            BenchError: the folder cannot be written.
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
        """Whether a `bench run` is writing here; False if this machine cannot tell."""
        try:
            with (self.path / ".lock").open("rb") as file:
                # A shared lock, for a moment only: two concurrent callers must not take each other for a run.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exists(self) -> bool:
        """Whether a run has written here."""
        # The plan is written before the first trial: a folder with trials but no plan has lost its plan.
        return self._plan.exists() or (self.sweep_path.exists() and self.trials_path.is_dir())

    def latest(self) -> "RunFolder":
        """The run, or its tuning if that was planned later; `bench run` works on it, or did when it stopped."""
        return self.tuning if self.tuning._planned_at() > self._planned_at() else self

    def _planned_at(self) -> float:
        """When the plan was written, in seconds since 1970; 0 if unknown, −1 if there is no plan.

        The file's modification time is not used: it changes when the folder is copied.
        """
        if not self.exists():
            return -1.0
        try:
            return float(self.plan_record().written)
        except BenchError:  # raised again where the run is read
            return 0.0

    # -- the plan -----------------------------------------------------------------------------------------------

    def write_plan(self, sweep: dict[str, Any], trials: Sequence[Trial], **fields: Any) -> None:
        """Writes the resolved sweep and the plan of its trials.

        Folders of trials that an earlier version of the sweep planned stay on the disk, and leave the results.

        Args:
            sweep: the content of `sweep.yaml`.
            trials: the trials of the sweep.
            fields: further fields of `bench.store.records.PlanRecord`.
        """
        self.write_planned(sweep, list(map(row_of, trials)), **fields)

    def write_planned(self, sweep: dict[str, Any], rows: Sequence[PlannedTrial], **fields: Any) -> None:
        """Writes the resolved sweep and the plan, as `write_plan` does, from rows of a plan."""
        text = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(sweep, text)
        self.path.mkdir(parents=True, exist_ok=True)
        comment = "# Resolved by `bench run`; `bench run` on this file runs the same trials.\n"
        write_text(self.sweep_path, comment + text.getvalue())
        plan = PlanRecord.model_validate({**fields, "written": time.time(), "trials": list(rows)})
        write_json(self._plan, plan.stored())

    def planned(self) -> list[PlannedTrial]:
        """The rows of the plan."""
        return self.plan_record().trials

    def plan_record(self) -> PlanRecord:
        """The content of `plan.json`; if it is damaged, a plan rebuilt from the trials' records (see `damage`).

        Raises:
            BenchError: the file is damaged and no trial's record can replace it, or a later version of the package
                wrote it.
        """
        content = read_record(self._plan)
        try:
            return PlanRecord.model_validate(content)
        except ValidationError as error:
            return self._recovered(wrong_plan(content, error))

    def whole_plan(self) -> WholePlan:
        """The content of `plan.json` with every field that a report needs; a plan that lacks one is rebuilt.

        Raises:
            BenchError: see `plan_record`.
        """
        fields = self.plan_record().model_dump(exclude_unset=True)
        try:
            return WholePlan.model_validate(fields)
        except ValidationError as error:
            return WholePlan.model_validate(self._recovered(wrong_plan(fields, error)).model_dump(exclude_unset=True))

    def _recovered(self, wrong: str) -> PlanRecord:
        what = wrong if self._plan.exists() else "is missing"
        records = (self.trial(path.name).read() for path in sorted(self.trials_path.glob("*/")))
        plan = recovered_plan(self.sweep_path, records, what)
        if plan is None:
            do = "the `bench run` that wrote it writes it again; finished trials are kept"
            raise BenchError(what, str(self._plan), do)
        return plan

    def sweep(self) -> dict[str, Any]:
        """The content of `sweep.yaml`.

        Raises:
            BenchError: the file is damaged or missing.
        """
        do = "the `bench run` that wrote it writes it again; finished trials are kept"
        try:
            content = read_yaml(self.sweep_path).plain()
        except BenchError as error:
            raise BenchError(error.what, str(self.sweep_path), do) from None
        kinds = {"resources": dict, "methods": list}
        lacking = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
        if lacking:
            raise BenchError(f"has no {lacking[0]}", str(self.sweep_path), do)
        return content

    def trial(self, key: str) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(self.trials_path / key)

    # -- results ------------------------------------------------------------------------------------------------

    def trials(self) -> list[StoredTrial]:
        """Every planned trial, with each of its files read once."""
        stored = []
        for planned in self.planned():
            folder = self.trial(planned.trial)
            # The record before the curve: a status is written after its points, so the curve then holds all of them.
            record = folder.read()
            stored.append(StoredTrial(planned, record, folder.read_curve(), folder.problems()))
        return stored

    def results(self) -> pd.DataFrame:
        """The tidy frame: one row per (trial, point, split, metric), with every axis of the meter."""
        return self.gather()[0]

    def gather(self) -> tuple[pd.DataFrame, list[StoredTrial]]:
        """The results of `results` and of `trials`, from one reading of every trial's files."""
        tidy, trials = Tidy(), self.trials()
        for trial in trials:
            tidy.add(trial.planned, trial.record.status, trial.curve)
        return tidy.frame(), trials

    def write_results(self, frame: pd.DataFrame | None = None) -> pd.DataFrame:
        """Writes `results.parquet`, and returns its content: `frame`, or by default the frame of `results`."""
        rows = self.results() if frame is None else frame
        write_atomically(self.results_path, lambda temporary: rows.to_parquet(temporary, index=False))
        return rows

    def evaluation(self, trials: list[StoredTrial] | None = None) -> pd.DataFrame:
        """The evaluation rows of every trial: one row per (trial, point, split, metric, prompt, sample).

        Text columns are categories in alphabetical order, so that ten million rows take half a gigabyte. A damaged file
        is left out, and the damage is added to its trial's `damage`.

        Args:
            trials: the run's trials, as `trials` or `gather` return them; read from the folder by default.
        """
        trials = self.trials() if trials is None else trials
        by_key = {trial.key: trial for trial in trials}

        def accept(key: str, table: Any, why: str) -> bool:
            damage = evaluation_damage(by_key[key].record, None if table is None else len(table), why)
            if damage:
                by_key[key].damage.append(str(damage))
            return not damage

        return read_evaluations([(trial.planned, self.trial(trial.key).evaluation_path) for trial in trials], accept)
