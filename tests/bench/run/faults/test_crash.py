"""A process killed at each file operation of a point in turn: the store loads, and the resumed curve is the same."""

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bench.run.trial import TrialLoop, run_trial
from bench.store.files import UNFINISHED
from bench.store.trial_folder import TrialFolder
from tests.bench.run.faults.stores import weights
from tests.bench.run.test_trial import make_trial, points

TORN_BYTES = 10


def in_copy(task: Callable[[], None]) -> int:
    """Calls `task` in a copy of this process, in milliseconds; 0, or minus the signal that killed it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        task()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill_at(operation: int, path: Path) -> None:
    """Has this process killed before that operation on a file below `path`: opening to write, waiting for the disk,
    renaming, removing, making a folder. A file that waits for the disk loses its last bytes first.
    """
    done = 0

    def count(descriptor: int | None = None) -> None:
        nonlocal done
        done += 1
        if done == operation:
            written = Path(f"/proc/self/fd/{descriptor}")
            if descriptor is not None and written.is_file():
                os.truncate(written, max(0, written.stat().st_size - TORN_BYTES))
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wax"
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if (writes or changes) and str(arguments[0]).startswith(str(path)):
            count()

    sync = os.fsync
    os.fsync = lambda descriptor: (count(descriptor), sync(descriptor))
    sys.addaudithook(watch)


def content(folder: TrialFolder) -> tuple:
    """What a folder holds, but for what the clock wrote into it."""
    found = sorted(path for path in folder.path.rglob("*") if not path.match(UNFINISHED))
    return *found, str(points(folder)), folder.curve_path.read_bytes()[-1:], folder.evaluation_path.read_bytes()


def names(folder: TrialFolder) -> set[Path]:
    """Of what is there once the trial has ended, without what only this or that process needs."""
    passing = {".lock", ".owner", "heartbeat.json"}
    return {
        path.relative_to(folder.path)
        for path in folder.path.rglob("*")
        if path.name not in passing and path.parent.name != "checkpoint"
    }


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(
    "operations",
    [pytest.param(range(1, 99), marks=pytest.mark.slow), range(1, 99, 4)],
    ids=["every-one", "one-of-four"],
)
def test_killed_at_a_file_operation_of_a_point(tiny_model, tmp_path, operations):
    trial = make_trial(tiny_model, "alignprop", prompts_train=("a cat",))
    straight, begun = TrialFolder(tmp_path / "straight"), TrialFolder(tmp_path / "begun")
    run_trial(trial, straight)
    loop, fresh = TrialLoop(trial, begun), TrialLoop(trial, begun)
    loop.resume_or_begin()
    while loop.point < 1:
        loop.step()
    loop.step()  # and the next one ends in the third point, at which the first checkpoint is removed

    def write_a_point() -> None:
        loop.folder = cut
        kill_at(operation, cut.path)
        loop.step()
        assert loop.point == 2

    def resume() -> None:
        fresh.folder = cut
        with cut.lock():
            fresh.resume_or_begin()
            while fresh.step():
                pass
            fresh.finish()

    seen = []
    for operation in operations:
        cut = TrialFolder(tmp_path / "cut")
        shutil.copytree(begun.path, cut.path)
        code = in_copy(write_a_point)
        assert [row.point for row in cut.read_curve()] in ([0, 1], [0, 1, 2])
        assert {0, 1} <= set(cut.read_evaluation()["point"]) <= {0, 1, 2}
        after = content(cut)
        if after not in seen:
            seen.append(after)
            assert in_copy(resume) == 0
            assert points(cut) == points(straight), f"killed at operation {operation}"
            pd.testing.assert_frame_equal(cut.read_evaluation(), straight.read_evaluation(), check_exact=True)
            assert weights(cut) == weights(straight)
            assert names(cut) == names(straight)
        shutil.rmtree(cut.path)
        if code != -signal.SIGKILL:
            break
    assert code == 0
    assert operation > 25, "its operations are seen"
    assert len(seen) > 8 / operations.step, "and they matter"
