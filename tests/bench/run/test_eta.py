"""How long is left, checked against trials whose pace is known."""

import pytest

from bench.console import duration, shortened
from bench.run import eta
from bench.run.eta import Timing, eta_of, run_eta, with_etas
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder


def row(status="planned", seconds=None, left=None, variant="ddpo", method="ddpo"):
    return Timing(variant, method, Status(status), seconds, left)


class Clock:
    """A clock that the folder and the estimate share."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("bench.store.trial_folder.time.time", lambda: self.now)
        monkeypatch.setattr(eta.time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    return TrialFolder(tmp_path / "trial")


def test_a_steady_trial_is_told_exactly_and_counts_down(folder, clock):
    folder.write_status("running")
    clock.now += 100  # loading, and the first evaluation
    folder.heartbeat(progress=0.1)
    assert eta_of(folder.pulse()) is None, "one step has no pace"
    for step in range(2, 6):
        clock.now += 7
        folder.heartbeat(progress=step / 10)
    assert eta_of(folder.pulse()) == pytest.approx(35)
    clock.now += 3
    folder.heartbeat()  # the thread that says it is alive
    assert eta_of(folder.pulse()) == pytest.approx(32)
    clock.now += 1000
    assert eta_of(folder.pulse()) == 0


def test_a_resumed_trial_has_the_pace_of_this_attempt(folder, clock):
    folder.write_status("running")
    for step in range(1, 6):
        clock.now += 1000  # a slow machine, which then dies
        folder.heartbeat(progress=step / 10)
    clock.now += 1e6
    folder.write_status("running")
    assert folder.pulse().progress == 0, "what the dead attempt said of itself is no news"
    for step in range(5, 8):  # its checkpoint was a step behind
        clock.now += 2
        folder.heartbeat(progress=step / 10)
    assert eta_of(folder.pulse()) == pytest.approx(6)


def test_a_retry_within_the_attempt_starts_anew(folder, clock):
    folder.write_status("running")
    for progress in (0.2, 0.4, 0.6):
        clock.now += 100
        folder.heartbeat(progress=progress)
    clock.now += 1
    folder.heartbeat(progress=0.3)
    assert eta_of(folder.pulse()) is None
    clock.now += 1
    folder.heartbeat(progress=0.5)
    assert eta_of(folder.pulse()) == pytest.approx(2.5)


def test_a_trial_that_cannot_tell_yet_is_expected_to_be_like_its_kind():
    rows = [
        row("done", 100.0),
        row("done", 300.0),
        row("done", 1000.0, variant="rwr", method="rwr"),
        row("running", 50.0),
        row("running", 5000.0),
        row("running", 0.0, variant="ddpo-slow"),
        row("running", 1.0, variant="base", method="base"),
    ]
    found = [each.eta_seconds for each in with_etas(rows)]
    assert found == [None, None, None, 150, 0, 200, pytest.approx(1400 / 3 - 1)]


def test_a_run_is_told_from_its_trials_and_how_many_run_at_once():
    rows = [row("done", 10.0), row("running", 4.0, 6.0), row("running", 8.0, 2.0), *[row()] * 3]
    # Two at a time: one place is free after 2 s, then after 6, 12 and 16.
    assert run_eta(rows, 2) == 22
    assert run_eta(rows, 5) == 10
    assert run_eta([row("done", 10.0), row()], 2) is None, "nothing runs"
    assert run_eta([row("running", 4.0), row()], 2) is None, "nobody knows"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0s"), (59.4, "59s"), (60, "1m00s"), (3599.4, "59m59s"), (3600, "1h00m"), (90000, "1d01h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_shortened_keeps_both_ends():
    assert shortened("ddpo-s0-1a2b3c4d", 16) == "ddpo-s0-1a2b3c4d"
    assert shortened("ddpo-learning_rate-0.001-s0-1a2b3c4d", 16) == "ddpo-le…1a2b3c4d"
