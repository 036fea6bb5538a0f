"""`bench status`: a run as it stands, at 80 columns and with many trials."""

import io
import json
import re
import threading
import time
from dataclasses import replace

import pytest
from filelock import FileLock
from rich.console import Console

from bench.commands import status
from bench.commands.status import trial_rows
from bench.run.progress import Bars, view_of
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from tests.bench.bodies import one_trial
from tests.bench.planned import plan

CAUSE = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB [1/2] " + "and so on, " * 30 + "and on"


@pytest.fixture
def trials(sweep_file):
    """200 and more."""
    return plan(load_sweep(sweep_file, overrides=[f"seeds={list(range(67))}"]))


@pytest.fixture
def run(trials, tmp_path):
    """A run in the middle: two run, most are planned, and some ended in every way."""
    found = RunFolder(tmp_path / "runs" / "tiny")
    found.write_plan({}, trials, budget=trials[0].budget.model_dump(), parallel=2)
    endings = [("done", None), ("done", None), ("running", None), ("failed", CAUSE), ("failed", CAUSE)]
    endings += [("diverged", "the loss is nan at step 3"), ("running", None)]
    for trial, (ending, cause) in zip(trials, endings, strict=False):
        folder = found.trial(trial.key)
        folder.write_status("running", started=time.time() - 40.0)
        folder.append_point(0, {"reward_queries": 0, "wall_seconds": 1.0}, {"train": {"reward": 0.25}})
        if ending == "running":
            folder.heartbeat(progress=0.25)
        else:
            folder.write_status(ending, cause, seconds=50.0)
    return found


def test_a_row_tells_seconds_and_what_is_left(run, cli):
    rows = json.loads(cli("status", run.path, "--json").out)
    assert len(rows) == 201
    done, running, failed, planned = rows[0], rows[2], rows[3], rows[-1]
    assert (done["seconds"], done["eta_seconds"]) == (50.0, None)
    assert running["seconds"] == pytest.approx(40, abs=10)
    assert running["eta_seconds"] == pytest.approx(10, abs=10), "like those that are done"
    assert (failed["cause"], failed["eta_seconds"]) == (CAUSE, None)
    assert (planned["seconds"], planned["eta_seconds"], planned["progress"]) == (None, None, 0.0)


def test_causes_stand_below_the_table_once_and_whole(run, cli):
    answer = cli("status", run.path)
    *table, failed, diverged, totals = answer.out.rstrip().splitlines()
    assert all(len(line) <= 80 for line in table)
    assert failed == f"{run.planned()[3].trial} and 1 more: failed: {CAUSE}"
    assert diverged.endswith(": diverged: the loss is nan at step 3")
    found = re.fullmatch(r"201 trials, ~(\S+) left: 2 done, 2 running, 2 failed, 1 diverged, 194 planned", totals)
    assert found, totals
    # 194 trials of 50 s, two at a time.
    assert found[1] in ("1h20m", "1h21m", "1h22m")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 50), (80, 12)])
def test_what_is_watched_fits_the_terminal(run, width, height):
    screen = Console(width=width, height=height, file=io.StringIO())
    rows = trial_rows(run)
    screen.print(status._screen(rows, 2, width, height))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert text.count("running") == 3, "those that run come first, and the totals"
    assert "trials that this terminal has no room for" in text
    assert "2 running, 2 failed, 1 diverged, 194 planned" in text


def test_long_names_keep_their_ends(run):
    screen = Console(width=80, height=24, file=io.StringIO())
    rows = [replace(row, trial="x" * 60 + row.trial[-12:]) for row in trial_rows(run)]
    screen.print(status._screen(rows, 2, 80, 24))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) <= 24
    assert any(rows[2].trial[-12:] in line for line in lines)


def test_watching_ends_with_the_run(run, trials, cli):
    def finish():
        time.sleep(0.5)
        for trial in trials:
            run.trial(trial.key).write_status("done", seconds=1.0)

    finisher = threading.Thread(target=finish)
    finisher.start()
    answer = cli("status", run.path, "--watch", "0.2")
    finisher.join()
    assert answer.code == 0
    totals = [line for line in answer.out.splitlines() if line.startswith("201 trials")]
    assert totals[-1] == "201 trials: 201 done"
    assert len(totals) > 1


def test_a_row_tells_of_one_moment(tmp_path, ends_meanwhile):
    found = RunFolder(tmp_path / "run")
    ends_meanwhile(one_trial(found))
    [row] = trial_rows(found)
    assert (row.status, row.points, row.axes) == ("running", 2, {"steps": 1})


@pytest.fixture
def tuned_again(run, trials):
    """The run's comparison is done, and it is being tuned anew."""
    for trial in trials:
        run.trial(trial.key).write_status("done", seconds=1.0)
    first = trials[0].model_copy(update={"variant": "base-t00"})
    run.tuning.write_plan({}, [first], budget=first.budget.model_dump(), parallel=1)
    run.tuning.trial(first.key).write_status("running", started=time.time())
    return run.tuning.trial(first.key)


def test_a_run_that_is_tuned_again_shows_its_tuning(run, trials, tuned_again, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in (run.path, "tiny"):
        [row] = json.loads(cli("status", name, "--json").out)
        assert (row["trial"], row["status"]) == (tuned_again.key, "running")
    [row] = json.loads(cli("status", "--json").out)
    assert (row["run"], row["tuning"], row["trials"], row["running"]) == ("runs/tiny", True, 1, 1)
    assert "runs/tiny (tuning)" in cli("status").out
    run.write_plan({}, trials, budget=trials[0].budget.model_dump(), parallel=2)
    assert len(json.loads(cli("status", run.path, "--json").out)) == 201, "it has come to the comparison"
    [row] = json.loads(cli("status", "--json").out)
    assert (row["tuning"], row["trials"]) == (False, 201)


def test_a_run_that_is_tuned_for_the_first_time_is_listed(run, tuned_again, cli, monkeypatch, tmp_path):
    (run.path / "plan.json").unlink()
    monkeypatch.chdir(tmp_path)
    [row] = json.loads(cli("status", "--json").out)
    assert (row["run"], row["tuning"], row["running"]) == ("runs/tiny", True, 1)


def test_what_is_watched_goes_on_from_the_tuning_to_the_comparison(run, trials, tuned_again, cli, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            tuned_again.write_status("done", seconds=1.0)  # the last of its round: `bench run` goes on
        elif len(looks) == 2:
            run.write_plan({}, trials, budget=trials[0].budget.model_dump(), parallel=2)
        else:
            lock.release()

    monkeypatch.setattr(status.time, "sleep", sleep)
    lock = FileLock(run.path / ".lock")
    lock.acquire()
    answer = cli("status", run.path, "--watch")
    assert answer.code == 0, answer.err
    totals = [line for line in answer.out.splitlines() if re.match(r"\d+ trials?[:,]", line)]
    assert totals == ["1 trial: 1 running", "1 trial: 1 done", "201 trials: 201 done", "201 trials: 201 done"]


@pytest.mark.parametrize("order", ["--watch RUN", "RUN --watch", "--watch=0.1 RUN", "--watch 0.1 RUN"])
def test_ctrl_c_leaves_quietly(run, cli, monkeypatch, order):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", stop)
    answer = cli("status", *(str(run.path) if word == "RUN" else word for word in order.split()))
    assert (answer.code, answer.err) == (0, "")
    assert "201 trials" in answer.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("RUN", "--watch", "soon"), "'soon' is no number of seconds"),
        (("RUN", "--watch=0"), "0 is not within 0.1 and 3600 seconds"),
        (("--watch",), "there is no RUN to watch"),
        (("RUN", "--watch", "--json"), "--json cannot be watched"),
    ],
)
def test_what_cannot_be_watched(run, cli, options, said):
    answer = cli("status", *(str(run.path) if word == "RUN" else word for word in options))
    assert answer.code == 2
    assert f"--watch: {said}" in answer.err


def test_the_list_of_runs_tells_what_is_left(run, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [row] = json.loads(cli("status", "--json").out)
    assert (row["run"], row["running"], row["broken"]) == ("runs/tiny", 2, 3)
    assert row["eta_seconds"] == pytest.approx(194 / 2 * 50, rel=0.05)
    assert "1h2" in cli("status").out


@pytest.mark.parametrize(("width", "few"), [(80, True), (120, True), (80, False)])
def test_bars_fit_the_terminal_and_tell_causes_above(run, trials, monkeypatch, width, few):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "24")
    shown = trials[:9] if few else trials
    bars = Bars(shown, io.StringIO(), parallel=2)
    for trial in shown:
        bars.show(view_of(run.trial(trial.key), trial.variant, trial.budget))
    screen = Console(width=width, height=24, file=io.StringIO())
    screen.print(bars)
    lines = screen.file.getvalue().rstrip().splitlines()
    bars.close()
    assert all(len(line) <= width for line in lines)
    assert sum("running" in line and "%" in line for line in lines) == 2
    assert len(lines) == (8 if few else 3), "a line a trial that began; with many trials, that runs"
    assert re.match(rf"{len(shown)} trials, ~\S+ left: 2 done, 2 running, 2 failed, 1 diverged", lines[-1])
    above = bars.console.file.getvalue()
    assert above.count("failed: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB [1/2]") == 2
    assert above.count("diverged: the loss is nan at step 3") == 1
