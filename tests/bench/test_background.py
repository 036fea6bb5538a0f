"""Something done again and again beside the main work."""

import threading

import pytest

from bench.background import repeating


def test_it_repeats_passes_over_what_it_may_and_has_ended_afterwards():
    calls, often = [], threading.Event()

    def task():
        calls.append(len(calls))
        if len(calls) >= 3:
            often.set()
        raise OSError("just being replaced")

    with repeating(task, 0.001, "test", passing=(OSError,)):
        assert often.wait(10)
    assert calls == list(range(len(calls)))
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]


def test_it_ends_with_a_block_that_raises():
    with pytest.raises(ValueError, match="main work"), repeating(lambda: None, 60.0, "test"):
        raise ValueError("main work")
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]
