"""The store can be read and resumed from at any moment, whatever fails, and nobody's work is lost."""

import random
import shutil
import socket
import time

import pandas as pd
import pytest

from bench.commands.shared import find_run
from bench.errors import BenchError, LockedError
from bench.store.files import read_json, write_json
from bench.store.heartbeat import STALE_SECONDS
from bench.store.records import PlannedTrial
from bench.store.remote.fetching import RECORDS, fetch, fetch_copy
from bench.store.remote.manifest import Manifest, local_files
from bench.store.remote.mirror import Mirror, mirrored
from bench.store.remote.place import Place
from bench.store.run_folder import TUNING, RunFolder
from tests.bench.store.remote.conftest import POINTS, check_trial, life

KEY = "ddpo-s0-1a2b3c4d"


@pytest.fixture
def place(shaky) -> Place:
    return Place("shaky://store/run")


class BrokenError(BaseException):
    """What no `except Exception` swallows."""


def begun(folder, place) -> tuple[RunFolder, Mirror]:
    """A mirrored run with one trial in its plan."""
    mirror = Mirror(folder, place)
    mirror.begin()
    return plan(RunFolder(folder)), mirror


def plan(run) -> RunFolder:
    row = PlannedTrial(trial=KEY, variant="ddpo", method="ddpo", seed=0, sweep="x", identity="0")
    run.write_planned({"name": "x"}, [row])
    return run


def renamed(shaky) -> list[str]:
    """The files that came to be in the store."""
    return [path.rpartition("/")[2] for operation, path in shaky.done if operation == "rename"]


def whole(run) -> None:
    """The trial from its start to its end."""
    for _ in life(run.trial(KEY)):
        pass


def fetched(place, path) -> RunFolder:
    fetch(place, Manifest(path))
    return RunFolder(path)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_at_any_moment_there_is_something_to_go_on_from(shaky, place, tmp_path, seed, recwarn):
    """Before every operation on the store the trial may have gone on, the operation may fail half-way, and whatever is
    in the store then is taken by another machine. With an odd seed the trial goes back behind a checkpoint.
    """
    back = seed % 2 == 1
    chance = random.Random(seed)
    run, mirror = begun(tmp_path / "run", place)
    trial = life(run.trial(KEY), back)
    seen, looking = [], False

    def before(operation, path):
        nonlocal looking
        if looking:
            return False
        looking = True
        copy = tmp_path / "copy"
        try:
            seen.append(check_trial(fetched(place, copy).trial(KEY), went_back=back))
        except AssertionError as error:
            raise BrokenError(f"before {operation} {path}: {error}") from error
        shutil.rmtree(copy)
        looking = False
        for _ in range(chance.choice([0] * 12 + [1, 2])):
            next(trial, None)
        return chance.random() < 0.05

    shaky.before = staticmethod(before)
    while run.trial(KEY).recorded_status() != "done":
        next(trial, None)
        mirror.sync()
    for _ in trial:
        pass
    shaky.before = staticmethod(lambda operation, path: False)
    mirror.end()
    assert mirror.left() == []
    assert check_trial(fetched(place, tmp_path / "end").trial(KEY)) == ("done", POINTS)
    Mirror(run.path, place).begin()
    assert not [name for name in place.listing() if "/checkpoint/" in name], "a finished trial needs none"
    newest = [point for _, point in seen]
    assert len(set(newest)) > 2, "it was looked at in several states"
    begun_at = next(number for number, point in enumerate(newest) if point >= 0)
    assert -1 not in newest[begun_at:], "once there is a checkpoint, there is always one"


def test_a_trial_that_went_back_behind_a_checkpoint_goes_on_from_the_one_before(shaky, place, tmp_path, recwarn):
    run, mirror = begun(tmp_path / "run", place)
    folder, trial = run.trial(KEY), life(run.trial(KEY))
    while not (folder.checkpoints / "point-0003.sha256").exists():
        next(trial)
    mirror.sync()
    assert check_trial(fetched(place, tmp_path / "copy").trial(KEY)) == ("running", 3)
    while len(folder.read_curve()) == 4 or 3 in set(folder.read_evaluation()["point"]):
        next(trial)
    seen = []

    def before(operation, path):
        if "heard" not in seen:
            seen.append("heard")
            copy = tmp_path / f"copy-{len(seen)}"
            try:
                seen.append(check_trial(fetched(place, copy).trial(KEY), went_back=True)[1])
            except AssertionError as error:
                raise BrokenError(f"before {operation} {path}: {error}") from error
            seen.remove("heard")
        return False

    shaky.before = staticmethod(before)
    mirror.sync()
    assert set(seen) == {2, 3}
    assert check_trial(fetched(place, tmp_path / "end").trial(KEY))[1] == 2, "the one that it went behind is gone"


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_a_reader_sees_no_record_without_its_data(shaky, place, tmp_path, seed, back, recwarn):
    """The trial goes on and is uploaded before anything that a reader lists or fetches."""
    chance = random.Random(seed)
    run, mirror = begun(tmp_path / "run", place)
    trial = life(run.trial(KEY), back)
    busy = False

    def before(operation, path):
        nonlocal busy
        if operation in ("get", "list") and not busy:
            busy = True
            for _ in range(chance.choice([0, 0, 0, 0, 0, 1, 3])):
                next(trial, None)
            mirror.sync()
            busy = False
        return False

    shaky.before = staticmethod(before)
    statuses = set()
    for number in range(30):
        next(trial, None)
        mirror.sync()
        copy = fetched(place, tmp_path / f"copy-{number % 2}")  # an older copy, brought up to date
        if copy.exists():
            status, _ = check_trial(copy.trial(KEY), went_back=back)
            statuses.add(status)
    assert {"running", "done"} <= statuses


@pytest.mark.parametrize(("moment", "newest"), [("curve.jsonl", 1), (".pt", 2)])
def test_a_trial_that_overtakes_its_upload_has_a_checkpoint_in_the_store(shaky, place, tmp_path, moment, newest):
    """While curve or checkpoint is uploaded, the trial writes two more checkpoints, and so removes those listed."""
    run, mirror = begun(tmp_path / "run", place)
    folder = run.trial(KEY)
    points = iter(range(100))

    def two_more(operation="", path=""):
        if path.endswith(f"{moment}.tmp") or not path:
            for point in (next(points), next(points)):
                row = {"point": point, "split": "train", "metric": "reward", "prompt": "a", "sample": 0, "value": 1.0}
                folder.write_evaluation(pd.DataFrame([row]))
                folder.append_point(point, {"steps": point}, {"train": {"reward": 1.0}})
                folder.save_checkpoint({"point": point})
        return False

    folder.write_status("running")
    two_more()
    mirror.sync()
    two_more()
    shaky.before = staticmethod(lambda operation, path: operation == "put" and two_more(operation, path))
    mirror.sync()
    assert check_trial(fetched(place, tmp_path / "copy").trial(KEY)) == ("running", newest)


def test_what_belongs_into_the_store_is_sent_and_nothing_else_is_missed(place, tmp_path):
    run, mirror = begun(tmp_path / "run", place)
    for each in (run, plan(run.tuning)):
        whole(each)
        (each.path / "sweep.yaml").write_text("name: x")
    folder = run.trial("rwr-s0-1a2b3c4d")
    folder.write_status("interrupted", "stopped")
    folder.save_checkpoint({"point": 0})
    part = [*(f"{TUNING}/{name}" for name in ("search.json", "trials/x/tracking/wandb.json")), "results.parquet"]
    part += ["report/report.html", "report/figures/a.png"]
    others = ["mlflow.db", "mlflow.db-journal", "mlflow/1/a.png", f"{TUNING}/mlflow.db", f"{TUNING}/report/report.html"]
    others += ["notes.txt", "trials/notes.txt", f"trials/{folder.key}/checkpoint/notes.txt"]
    others += [f"trials/{folder.key}/checkpoint/point-0001.{suffix}" for suffix in ("damaged", "ahead")]
    # A trial that was killed in the midst of writing a checkpoint has no hash of it; nothing could go on from it.
    unfinished = f"trials/{folder.key}/checkpoint/point-0002.pt"
    for name in (*part, *others, unfinished):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(name)
    mirror.end()
    assert mirror.left() == []
    there = set(place.listing()) - {".lease.json"}
    assert there == set(local_files(run.path)) - {unfinished}
    assert set(part) <= there
    assert f"trials/{folder.key}/checkpoint/point-0000.pt" in there
    assert not set(others) & there


def test_what_belongs_to_a_machine_stays_there_when_another_goes_on(place, tmp_path):
    first, mirror = begun(tmp_path / "first", place)
    (first.path / "mlflow.db").write_text("here")
    mirror.end()
    second = RunFolder(tmp_path / "second")
    with mirrored(second.path, place):
        whole(second)
        (second.path / "mlflow.db").write_text("there")
    _, mirror = begun(first.path, place)
    mirror.end()
    assert [(run.path / "mlflow.db").read_text() for run in (first, second)] == ["here", "there"]
    assert not (tmp_path / "first.aside-1").exists()


def test_only_what_changed_is_moved(shaky, place, tmp_path):
    run, mirror = begun(tmp_path / "run", place)
    whole(run)
    mirror.sync()
    shaky.done.clear()
    mirror.sync()
    assert renamed(shaky) == [".lease.json"]
    shaky.done.clear()
    run.trial(KEY).error_path.write_text("oops")
    mirror.sync()
    assert renamed(shaky) == [".lease.json", "error.txt"]
    mirror.end()
    copy = Manifest(tmp_path / "copy")
    fetch(place, copy)
    shaky.done.clear()
    fetch(place, Manifest(tmp_path / "copy"))
    assert shaky.done == []


def test_a_store_that_is_away_stops_nothing_and_is_told_once(shaky, place, tmp_path, capsys):
    run, mirror = begun(tmp_path / "run", place)
    shaky.before = staticmethod(lambda operation, path: True)
    whole(run)
    mirror.sync()
    mirror.pulse()
    mirror.sync()
    said = capsys.readouterr().err
    assert said.count("cannot be written (ConnectionResetError") == 1
    assert len(said.splitlines()) == 1
    mirror.end()
    left = mirror.left()
    assert {"plan.json", f"trials/{KEY}/trial.json", f"trials/{KEY}/curve.jsonl"} <= set(left)
    # The same command again has nothing to fetch, and uploads the rest.
    shaky.before = staticmethod(lambda operation, path: operation == "get")
    _, again = begun(run.path, place)
    again.end()
    assert again.left() == []
    shaky.before = staticmethod(lambda operation, path: False)
    assert check_trial(fetched(place, tmp_path / "copy").trial(KEY)) == ("done", POINTS)


def test_a_file_that_cannot_be_uploaded_holds_back_its_record_and_no_other_trial(shaky, place, tmp_path):
    run, mirror = begun(tmp_path / "run", place)
    whole(run)
    for _ in life(run.trial("rwr-s0-1a2b3c4d")):
        pass
    shaky.before = staticmethod(lambda operation, path: "ddpo" in path and path.endswith("parquet"))
    mirror.sync()
    names = set(place.listing())
    assert f"trials/{KEY}/trial.json" not in names
    assert "trials/rwr-s0-1a2b3c4d/trial.json" in names
    assert all(KEY in name for name in mirror.left())


def test_another_machine_goes_on_and_the_first_follows(place, tmp_path):
    first, mirror = begun(tmp_path / "first", place)
    trial = life(first.trial(KEY))
    for _ in range(8):
        next(trial)
    mirror.end()
    second = RunFolder(tmp_path / "second")
    with mirrored(second.path, place):
        assert check_trial(second.trial(KEY)) == ("running", 1)
        shutil.rmtree(second.trials_path)
        whole(second)
    _, mirror = begun(first.path, place)
    assert check_trial(first.trial(KEY)) == ("done", POINTS)
    assert not first.trial(KEY).checkpoints.exists() or not list(first.trial(KEY).checkpoints.iterdir())
    assert not (tmp_path / "first.aside-1").exists()
    mirror.end()


def test_what_was_never_uploaded_is_set_aside_when_another_went_on(shaky, place, tmp_path, capsys):
    first, mirror = begun(tmp_path / "first", place)
    mirror.end()
    whole(first)  # its machine was cut off: none of it is in the store
    second = RunFolder(tmp_path / "second")
    with mirrored(second.path, place):
        second.trial(KEY).write_status("failed", "elsewhere")
    _, mirror = begun(first.path, place)
    aside = tmp_path / "first.aside-1"
    assert str(aside) in capsys.readouterr().err
    assert check_trial(RunFolder(aside).trial(KEY)) == ("done", POINTS)
    assert first.trial(KEY).recorded_status() == "failed"
    mirror.end()


def test_a_store_that_was_emptied_takes_nothing_with_it(shaky, place, tmp_path):
    first, mirror = begun(tmp_path / "first", place)
    whole(first)
    mirror.end()
    shaky.store.clear()
    Mirror(first.path, place).begin()
    assert not first.exists()
    assert check_trial(RunFolder(tmp_path / "first.aside-1").trial(KEY)) == ("done", POINTS)


def test_fetching_that_was_interrupted_is_not_taken_for_work(shaky, place, tmp_path):
    first, mirror = begun(tmp_path / "first", place)
    whole(first)
    mirror.end()
    second = tmp_path / "second"
    shaky.before = staticmethod(lambda operation, path: operation == "get" and path.endswith("parquet"))
    with pytest.raises(BenchError, match="cannot be read"):
        Mirror(second, place).begin()
    shaky.before = staticmethod(lambda operation, path: False)
    Mirror(second, place).begin()
    assert check_trial(RunFolder(second).trial(KEY)) == ("done", POINTS)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first", "second"]


def test_two_machines_do_not_write_one_run(place, tmp_path):
    with mirrored(tmp_path / "first", place), pytest.raises(LockedError, match=socket.gethostname()):
        Mirror(tmp_path / "second", place).begin()
    Mirror(tmp_path / "second", place).begin()


def test_a_run_that_was_taken_over_uploads_no_more(place, tmp_path):
    run, mirror = begun(tmp_path / "run", place)
    mirror.sync()
    place.write(".lease.json", b'{"host": "elsewhere", "pid": 7, "time": 1e12}')
    whole(run)
    mirror.end()
    assert mirror.lease.lost_to == "elsewhere (process 7)"
    assert f"trials/{KEY}/trial.json" not in place.listing()
    assert mirror.left()


def test_a_reader_elsewhere_sees_a_trial_alive(place, tmp_path):
    run, mirror = begun(tmp_path / "run", place)
    trial = run.trial(KEY)
    trial.write_status("running")
    mirror.sync()
    mirror.pulse()
    trial.heartbeat(progress=0.5)
    mirror.pulse()
    copy = fetch_copy(place, tmp_path / "runs", RECORDS)
    assert copy.trial(KEY).read().status == "running"
    assert copy.trial(KEY).pulse().progress == 0.5
    trial.write_status("done")
    mirror.end()
    copy = fetch_copy(place, tmp_path / "runs", RECORDS)
    assert copy.trial(KEY).read().status == "done"
    assert copy.trial(KEY).pulse() is None


@pytest.mark.parametrize("ends", ["between uploads", "in the midst of one"])
def test_a_trial_that_has_just_ended_is_not_taken_for_dead(shaky, place, tmp_path, ends):
    """Its heartbeat is in the store for as long as its record says there that it runs."""
    run, mirror = begun(tmp_path / "run", place)
    trial = run.trial(KEY)

    def last() -> str:
        return fetch_copy(place, tmp_path / "runs", RECORDS).trial(KEY).read().status

    def end(operation, path):
        if operation == "put" and "error.txt" in path and trial.recorded_status() == "running":
            trial.write_status("done")
        return False

    trial.write_status("running")
    record = read_json(trial.path / "trial.json")
    write_json(trial.path / "trial.json", {**record, "updated": time.time() - 2 * STALE_SECONDS})
    mirror.pulse()
    mirror.sync()
    assert last() == "running"
    if ends == "between uploads":
        trial.write_status("done")
    else:
        trial.error_path.write_text("of an attempt before")
        shaky.before = staticmethod(end)
        mirror.sync()
    assert trial.recorded_status() == "done"
    mirror.pulse()
    assert last() == "running"
    mirror.sync()
    assert last() == "done"
    assert not [name for name in place.listing() if name.endswith("heartbeat.json")]


def test_it_happens_in_the_background(place, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.store.remote.mirror.SYNC_SECONDS", 0.02)
    monkeypatch.setattr("bench.store.remote.mirror.PULSE_SECONDS", 0.02)
    run = RunFolder(tmp_path / "run")
    with mirrored(run.path, place) as mirror:
        for _ in life(run.trial(KEY)):
            time.sleep(0.02)
        during = place.listing()
    assert f"trials/{KEY}/curve.jsonl" in during
    assert mirror.left() == []
    assert check_trial(fetched(place, tmp_path / "copy").trial(KEY)) == ("done", POINTS)


def test_nothing_to_read_is_one_sentence(place, tmp_path, shaky, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match=f"^{place.url}: no run has written here"):
        find_run(place)
    place.write("plan.json", b"{}")
    shaky.before = staticmethod(lambda operation, path: True)
    with pytest.raises(BenchError, match="cannot be read"):
        find_run(place)
