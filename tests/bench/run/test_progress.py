"""Progress looks at files only where they changed, and not at all at trials that have ended."""

import io
import time

import pytest

from bench.build.trial_spec import Budget
from bench.run import progress
from bench.store.run_folder import RunFolder


class Planned:
    """What progress needs of a trial."""

    budget = Budget(axis="steps", limit=10)
    variant = "ddpo"

    def __init__(self, seed):
        self.seed = seed
        self.key = f"ddpo-s{seed}-x"


@pytest.fixture
def views(monkeypatch):
    """Keys of the trials whose files were read."""
    found, real = [], progress.view_of
    monkeypatch.setattr(progress, "view_of", lambda folder, *rest: (found.append(folder.key), real(folder, *rest))[1])
    return found


def test_a_trial_is_read_again_only_when_it_changed(tmp_path, views):
    trial = Planned(0)
    folder = RunFolder(tmp_path).trial(trial.key)
    since = time.time()
    watched = progress._Watched(trial, folder)
    assert watched.changed()
    assert watched.view(since) is None, "nothing is there yet"
    assert not watched.changed()
    folder.write_status("running")
    assert watched.changed()
    assert watched.view(since).status == "running"
    assert not watched.changed()
    folder.append_point(0, {"steps": 5}, {"train": {"reward": 1.0}})
    assert watched.changed()
    assert watched.view(since).progress == 0.5
    folder.write_status("done")
    assert watched.view(since).status == "done"
    assert watched.ended
    assert len(views) == 4


def test_a_running_trial_that_says_nothing_is_looked_at_for_staleness(tmp_path, monkeypatch):
    trial = Planned(0)
    folder = RunFolder(tmp_path).trial(trial.key)
    folder.write_status("running")
    watched = progress._Watched(trial, folder)
    watched.view(0.0)
    assert not watched.changed()
    monkeypatch.setattr(progress, "STALE_CHECK_SECONDS", -1.0)
    assert watched.changed()


def test_what_an_earlier_run_left_is_no_end(tmp_path):
    trial = Planned(0)
    folder = RunFolder(tmp_path).trial(trial.key)
    folder.write_status("failed", "an old cause")
    watched = progress._Watched(trial, folder)
    assert watched.view(time.time() + 1) is None
    assert not watched.ended
    folder.write_status("running")
    assert watched.changed()


def test_looking_costs_as_little_with_many_ended_trials(tmp_path, views, monkeypatch):
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "POLL_SHARE", 1.0)
    trials = [Planned(seed) for seed in range(50)]
    run, stream = RunFolder(tmp_path), io.StringIO()
    with progress.watching(trials, run, stream):
        for trial in trials:
            run.trial(trial.key).write_status("done")
        time.sleep(0.3)  # some thirty looks
    assert stream.getvalue().count("status=done") == 50
    assert len(views) <= 3 * len(trials), "before anything began, perhaps halfway, and at the end"
