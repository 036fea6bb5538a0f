"""A store in memory that can be told to fail, and a trial that writes its folder step by step."""

from collections.abc import Callable, Iterator

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import bench.store.remote.lease
from bench.store.checkpoints import load_checkpoint
from bench.store.trial_folder import TrialFolder


class ShakyFileSystem(MemoryFileSystem):
    """In memory, with a word to say before every operation. A write that fails leaves half of the file."""

    protocol = "shaky"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs: list = [""]  # noqa: RUF012
    cachable = False
    before: Callable[[str, str], bool] = staticmethod(lambda operation, path: False)
    """Called with what is about to be done (put, rename, remove, get, list); where it answers True, that fails."""
    done: list = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("shaky://"))

    def _ask(self, operation, path, content=None):
        fails = type(self).before(operation, path)
        type(self).done.append((operation, path))
        if fails:
            if content is not None:
                MemoryFileSystem.pipe_file(self, path, content[: len(content) // 2])
            raise ConnectionResetError("the connection was reset")

    def find(self, path, **kwargs):
        if type(self).before("list", path):
            raise ConnectionResetError("the connection was reset")
        return super().find(path, **kwargs)

    def put_file(self, lpath, rpath, **kwargs):
        with open(lpath, "rb") as file:  # noqa: PTH123
            content = file.read()
        self._ask("put", rpath, content)
        MemoryFileSystem.pipe_file(self, rpath, content)

    def pipe_file(self, path, value, **kwargs):
        self._ask("put", path, value)
        MemoryFileSystem.pipe_file(self, path, value)

    def mv(self, path1, path2, **kwargs):
        self._ask("rename", path2)
        super().mv(path1, path2, **kwargs)

    def rm_file(self, path):
        self._ask("remove", path)
        super().rm_file(path)

    def get_file(self, rpath, lpath, **kwargs):
        self._ask("get", rpath)
        super().get_file(rpath, lpath, **kwargs)


@pytest.fixture
def shaky() -> Iterator[type[ShakyFileSystem]]:
    """The file system behind `shaky://`; nothing fails until `shaky.before` says so."""
    fsspec.register_implementation("shaky", ShakyFileSystem, clobber=True)
    ShakyFileSystem.store.clear()
    ShakyFileSystem.pseudo_dirs[:] = [""]
    ShakyFileSystem.done.clear()
    yield ShakyFileSystem
    ShakyFileSystem.before = staticmethod(lambda operation, path: False)


@pytest.fixture
def memory() -> Iterator[None]:
    """An empty `memory://`."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(bench.store.remote.lease, "SETTLE_SECONDS", 0.0)


POINTS = 8


def life(folder: TrialFolder, back: bool = True) -> Iterator[None]:
    """A trial from its first word to its last in the order in which `bench.run.trial` writes, a pause after each write.

    In the middle it is interrupted, finds its newest checkpoint damaged, and goes `back` behind it.
    """
    folder.write_status("running")
    yield
    point, broken = 0, False
    while point < POINTS:
        rows = {"point": point, "split": "train", "metric": "reward", "prompt": ["a cat"], "sample": 0, "value": point}
        folder.write_evaluation(pd.DataFrame(rows))
        yield
        folder.append_point(point, {"steps": point}, {"train": {"reward": float(point)}})
        yield
        folder.save_checkpoint({"point": point})
        yield
        if point == 3 and back and not broken:
            broken = True
            with (folder.checkpoints / "point-0003.pt").open("r+b") as file:
                file.truncate(10)
            with pytest.warns(UserWarning, match="damaged"):
                point = folder.load_checkpoint()["point"]
            yield
            folder.cut_curve(point)
            yield
            folder.cut_evaluation(point)
            yield
        point += 1
    folder.adapter.mkdir(exist_ok=True)
    (folder.adapter / "weights").write_text("trained")
    yield
    folder.write_status("done")
    yield
    folder.drop_checkpoints()
    yield


def check_trial(folder: TrialFolder, went_back: bool = False) -> tuple[str, int]:
    """That something can go on from `folder` and be read; its status and the point of its newest checkpoint.

    Args:
        went_back: that the trial may have gone back behind a checkpoint. Only then a checkpoint may be ahead of the
            rest, and is passed by.
    """
    status = folder.recorded_status()
    points = [row.point for row in folder.read_curve()]
    rows = folder.read_evaluation()
    evaluated = set() if rows is None else set(rows["point"])
    assert points == list(range(len(points)))
    if status == "done":
        assert len(points) == POINTS
        assert evaluated == set(points)
        assert (folder.adapter / "weights").read_text() == "trained"
        return status, POINTS
    state = folder.load_checkpoint() if went_back else load_checkpoint(folder.checkpoints)
    newest = -1 if state is None else state["point"]
    needed = set(range(newest + 1))
    assert needed <= set(points), "a checkpoint ahead of its curve"
    assert needed <= evaluated, "a checkpoint ahead of its evaluation"
    return status, newest
