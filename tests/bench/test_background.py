"""Something done again and again beside the main work."""

import threading
import time

import pytest

from bench.background import repeating


def alive():
    return any(thread.name == "test" for thread in threading.enumerate())


def test_it_repeats_after_a_pause_and_tries_again_after_the_errors_it_may():
    begun, calls, often = time.monotonic(), [], threading.Event()

    def task():
        calls.append(time.monotonic())
        if len(calls) == 3:
            often.set()
        raise OSError("just being replaced")

    with repeating(task, 0.05, "test", retry_on=(OSError,)):
        assert often.wait(10)
    assert calls[0] - begun >= 0.05
    assert not alive()


def test_the_last_call_has_ended_after_the_block():
    entered, ended = threading.Event(), []

    def slow():
        entered.set()
        time.sleep(0.2)
        ended.append(True)

    with repeating(slow, 0.001, "test"):
        assert entered.wait(10)
    assert ended


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_another_error_ends_it():
    calls = []

    def broken():
        calls.append(True)
        raise KeyError("no such luck")

    with repeating(broken, 0.001, "test", retry_on=(OSError,)):
        deadline = time.monotonic() + 10
        while (alive() or not calls) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(calls) == 1


def test_it_ends_with_a_block_that_raises():
    with pytest.raises(ValueError, match="main work"), repeating(lambda: None, 60.0, "test"):
        raise ValueError("main work")
    assert not alive()
