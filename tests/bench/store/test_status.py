"""What each status means, for every one of them."""

import json

import pytest

from bench.store.status import Status

MEANS = {
    "done": {"settled", "ended"},
    "running": {"left_to_run"},
    "failed": {"ended", "stopped", "broken"},
    "diverged": {"settled", "ended", "stopped", "broken"},
    "interrupted": {"stopped", "broken", "left_to_run"},
    "skipped": {"ended", "stopped"},
    "pruned": {"settled", "ended", "stopped"},
    "planned": {"left_to_run"},
}


@pytest.mark.parametrize("word", MEANS)
def test_every_status_answers_every_question(word):
    questions = ("settled", "ended", "stopped", "broken", "left_to_run")
    assert {name for name in questions if getattr(Status(word), name)} == MEANS[word]


def test_every_status_is_its_own_word():
    assert [str(status) for status in Status] == list(MEANS), "in the order in which counts are listed"
    assert json.dumps({"status": Status.DONE}) == '{"status": "done"}'
