"""What a run does once a daemon of its Ray is gone. The daemon is played by a process that sleeps."""

import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout

import psutil
import pytest

from bench import stopping
from bench.run.executors import ray_daemons
from bench.run.executors.ray_daemons import OneLineStream, RayDied, watched_daemons


@pytest.fixture
def daemon(monkeypatch):
    process = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(ray_daemons, "own_daemons", lambda: [("raylet", psutil.Process(process.pid))])
    monkeypatch.setattr(ray_daemons, "POLL_SECONDS", 0.05)

    try:
        with stopping.listening():  # as `bench run` does
            yield process
    finally:
        process.kill()
        process.wait()


def work(*steps):
    """Does them while the daemon is looked after."""
    with watched_daemons():
        for step in steps:
            step()


def dies(daemon):
    """A step in which the daemon goes."""

    def step():
        daemon.kill()
        daemon.wait()

    return step


def raises(error):
    def step():
        raise error

    return step


@pytest.fixture
def unseen(monkeypatch):
    """Whatever happens, happens before the next look."""
    monkeypatch.setattr(ray_daemons, "POLL_SECONDS", 60.0)


def test_the_block_is_ended_and_the_error_says_why(daemon):
    begun = time.monotonic()
    with pytest.raises(RayDied) as error:
        work(dies(daemon), *([lambda: time.sleep(0.01)] * 3000))
    assert time.monotonic() - begun < 10
    assert error.value.lines() == [
        "Ray has died: its raylet is gone, often for lack of memory",
        "run the same command again to continue; --executor inline does without Ray",
    ]
    assert error.value.exit_code == 3


def test_whatever_came_of_it_first_is_not_what_is_told(daemon, unseen):
    with pytest.raises(RayDied) as error:
        work(dies(daemon), raises(RuntimeError("no such actor")))
    assert isinstance(error.value.__cause__, RuntimeError)


def test_a_block_that_came_to_its_end_all_the_same_did_not_do_its_work(daemon, unseen):
    with pytest.raises(RayDied):
        work(dies(daemon))


def test_a_user_who_stops_it_has_stopped_it(daemon):
    with pytest.raises(KeyboardInterrupt):
        work(raises(KeyboardInterrupt()))


def test_a_terminal_that_closes_takes_the_daemons_along(daemon, unseen):
    with pytest.raises(KeyboardInterrupt):
        work(dies(daemon), raises(KeyboardInterrupt()))


def test_while_it_lives_nothing_happens(daemon):
    work(lambda: time.sleep(0.3))
    with pytest.raises(RuntimeError, match="its own"):
        work(raises(RuntimeError("its own")))


def test_what_ray_says_of_its_daemons_is_a_line_each_and_its_raylets_end_is_said_once(capsys):
    with redirect_stdout(OneLineStream(sys.stderr)):
        print("(raylet) Raylet is terminated. Termination is unexpected.\n    [state-dump] and forty more\n")
        print("(raylet) 1 worker was killed, as memory ran out.\nRefer to the documentation.")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "(raylet) 1 worker was killed, as memory ran out.\n"


def test_who_cannot_hear_of_it_is_left(daemon, monkeypatch):
    left = threading.Event()
    monkeypatch.setattr(ray_daemons, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(ray_daemons, "_leave", lambda gone: left.set())
    monkeypatch.setattr(stopping, "break_off", lambda: None)  # a call that nothing interrupts
    with pytest.raises(RayDied):
        work(dies(daemon), lambda: left.wait(10))
    assert left.is_set()
