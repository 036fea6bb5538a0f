"""A stop that was asked for is an interruption, whatever the libraries in between make of it."""

import os
import signal
import time

import pytest
import torch

import bench.commands.run
from bench import stopping
from bench.build.plugins import build_reward
from bench.run.trial import run_trial
from bench.store.files import write_atomically
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from tests.bench.bodies import fake_points
from tests.bench.commands.test_run import run, statuses  # noqa: F401  # `run` is a fixture
from tests.bench.run.test_trial import make_trial, points


@pytest.fixture(autouse=True)
def default_signals(monkeypatch):
    """A suite in the background ignores Ctrl-C; one in a terminal is to keep its standard output."""
    monkeypatch.setattr(stopping, "_leave_terminal", lambda: None)
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in stopping.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def patient(monkeypatch):
    """Every signal is a wish of its own."""
    monkeypatch.setattr(stopping, "SAME_SECONDS", 0.0)


def press(name="SIGINT"):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.01)  # Python raises it in here


def turned(name="SIGINT"):
    """What `torch.save` makes of it."""
    try:
        press(name)
    except KeyboardInterrupt:
        raise RuntimeError("unexpected pos 64 vs 0") from None


def lost(name="SIGINT"):
    try:
        press(name)
    except BaseException:
        return


def printed(name="SIGINT"):
    class Held:
        def __del__(self):
            press(name)

    Held()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("way", "name", "retries"),
    [
        (press, "SIGTERM", 0),
        (turned, "SIGINT", 0),
        (turned, "SIGINT", 1),
        (turned, "SIGTERM", 1),
        (lost, "SIGHUP", 0),
        (lost, "SIGINT", 1),
        (printed, "SIGINT", 0),
    ],
)
def test_however_a_stop_comes_out_of_a_trial_nothing_else_is_begun(run, body, tmp_path, way, name, retries):  # noqa: F811
    def stop(trial, folder):
        fake_points(trial, folder, 2)
        way(name)

    body.special = {"alignprop": stop}
    answer = run("--set", f"retries={retries}")
    assert answer.code == 130
    assert answer.out.endswith("stopped; run the same command again to continue\n")
    assert body.calls == [("base", 0), ("alignprop", 0)]
    found = statuses(tmp_path)
    assert found["alignprop", 0] == "interrupted"
    assert {status for (variant, _), status in found.items() if variant == "ddpo"} == {"planned"}


def half_written(monkeypatch):
    """Ctrl-C while torch writes the second checkpoint."""
    save, saved = torch.save, []

    class Interrupting:
        def __init__(self, file):
            self.file, self.writes = file, 0

        def write(self, data):
            self.writes += 1
            if self.writes == 4:
                press()
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def interrupting(payload, file):
        saved.append(payload)
        return save(payload, Interrupting(file) if len(saved) == 2 else file)

    monkeypatch.setattr(torch, "save", interrupting)


def rewarded(reward):
    """Has the trial's reward do `reward(call's number)` first."""

    def arm(monkeypatch):
        calls = []

        def build(spec):
            built = build_reward(spec)
            score = built.score

            def scored(images, prompts):
                calls.append(1)
                try:
                    reward(len(calls))
                except BaseException:
                    return score(images, prompts) * 0.0
                return score(images, prompts)

            built.score = scored
            return built

        monkeypatch.setattr("bench.build.objects.build_reward", build)

    return arm


def at(number):
    def reward(call):
        if call == number:
            press()

    return reward


@pytest.mark.parametrize("arm", [half_written, rewarded(at(4)), rewarded(at(5))], ids=["torch", "step", "evaluation"])
def test_what_a_lost_stop_spoilt_is_not_kept_and_the_curve_goes_on_as_it_would_have(tiny_model, tmp_path, arm):
    trial = make_trial(tiny_model, "alignprop", limit=8.0)
    whole = TrialFolder(tmp_path / "whole")
    run_trial(trial, whole)
    folder = TrialFolder(tmp_path / "stopped")
    with pytest.MonkeyPatch.context() as patched, stopping.listening():
        arm(patched)
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial, folder)
    assert len(folder.read_curve()) < len(whole.read_curve())
    run_trial(trial, folder)
    assert points(folder) == points(whole)


def test_a_file_whose_writer_lost_a_stop_is_as_it_was(tmp_path):
    path = tmp_path / "evaluation.parquet"
    path.write_text("whole")

    def write(temporary):
        temporary.write_text("ha")
        lost()

    with stopping.listening(), pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_after_a_stop_what_must_be_written_is(tmp_path):
    with stopping.listening():
        lost()
        write_atomically(tmp_path / "trial.json", lambda temporary: temporary.write_text("interrupted"))
        with pytest.raises(RuntimeError, match="its own"), stopping.heeded():
            raise RuntimeError("its own")
        with pytest.raises(KeyboardInterrupt):
            stopping.check()
    assert (tmp_path / "trial.json").read_text() == "interrupted"
    stopping.check()


def test_a_second_press_leaves_out_the_report_but_no_status(run, body, tmp_path, monkeypatch, patient):  # noqa: F811
    write_status = TrialFolder.write_status

    def impatient(self, status, *rest, **more):
        if status == "interrupted":
            press()
        return write_status(self, status, *rest, **more)

    monkeypatch.setattr(TrialFolder, "write_status", impatient)
    body.special = {"alignprop": lambda trial, folder: press()}
    answer = run()
    assert answer.code == 130
    assert answer.err.endswith("stopped at once; run the same command again to continue\n")
    assert "report:" not in answer.out
    assert statuses(tmp_path)["alignprop", 0] == "interrupted"


def test_a_second_press_in_the_report(run, body, tmp_path, monkeypatch, patient):  # noqa: F811
    monkeypatch.setattr(bench.commands.run, "_report", lambda run: turned())
    body.special = {"alignprop": lambda trial, folder: press()}
    answer = run()
    assert answer.code == 130
    assert answer.err.endswith("stopped at once; run the same command again to continue\n")
    assert "internal error" not in answer.err


def test_a_signal_that_is_passed_on_twice_is_one_press(run, body, tmp_path):  # noqa: F811
    def twice(trial, folder):
        try:
            press()
        finally:
            press("SIGTERM")

    body.special = {"alignprop": twice}
    answer = run()
    assert answer.code == 130
    assert "report:" in answer.out
    assert statuses(tmp_path)["alignprop", 0] == "interrupted"


def test_the_third_press_ends_the_process_whatever_it_is_doing(monkeypatch, patient):
    class EndedError(BaseException):
        pass

    def leave(code):
        raise EndedError(code)

    monkeypatch.setattr(os, "_exit", leave)

    def press_three_times():
        with stopping.settling():
            for _ in range(3):
                press()

    with stopping.listening(), pytest.raises(EndedError, match="130"):
        press_three_times()


@pytest.mark.parametrize("way", [press, turned, lost])
def test_a_stop_outside_the_trials(run, body, cli, monkeypatch, way):  # noqa: F811
    monkeypatch.setattr("bench.run.sweep.check_model", lambda model: way())
    answer = run()
    assert answer.code == 130
    assert body.calls == []
    assert answer.err.splitlines()[-1] == "interrupted; run the same command again to continue"
    monkeypatch.setattr("bench.commands.doctor.CHECKS", {"versions": lambda: way() or ("ok", "")})
    assert cli("doctor").code == 130


def test_a_watcher_that_is_stopped_has_done_its_work(run, body, cli, tmp_path, monkeypatch):  # noqa: F811
    run()
    monkeypatch.setattr("bench.commands.status._find", lambda where: press())
    assert cli("status", tmp_path / "run", "--watch", "0.1").code == 0


def test_a_signal_that_was_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping.listening():
        press("SIGHUP")
        assert stopping.requests() == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_broken_off_was_not_stopped():
    def break_off():
        stopping.break_off()
        time.sleep(0.01)

    with stopping.listening():
        with pytest.raises(KeyboardInterrupt):
            break_off()
        assert stopping.requests() == 0


def test_a_run_folder_is_free_after_a_stop(run, body, tmp_path):  # noqa: F811
    body.special = {"alignprop": lambda trial, folder: turned()}
    run()
    with RunFolder(tmp_path / "run").lock():
        pass
