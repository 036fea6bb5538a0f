"""One writer: who is kept out, whose lease is taken over, and who notices."""

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.errors import LockedError
from bench.store.remote.lease import FILE, STALE_SECONDS, Lease
from bench.store.remote.place import Place


@pytest.fixture
def place(memory) -> Place:
    return Place("memory://store/run")


def leave(place, **changes):
    """Another writer's lease in the store."""
    owner = {"host": "elsewhere", "pid": 7, "copy": "theirs", "since": 1.0, "time": time.time(), "released": False}
    place.write(FILE, json.dumps({**owner, **changes}).encode())


def test_a_second_writer_is_told_of_the_first(place):
    first, second = Lease(place), Lease(place)
    first.acquire("a")
    with pytest.raises(LockedError) as error:
        second.acquire("b")
    assert f"{socket.gethostname()} (process {os.getpid()}) is writing this run" in str(error.value)
    assert "memory:///store/run" in str(error.value)
    first.release()
    second.acquire("b")
    assert second.last()["copy"] == "b"


@pytest.mark.parametrize(
    "state",
    [
        {"released": True},
        {"time": time.time() - STALE_SECONDS - 1},
        {"host": socket.gethostname(), "pid": 2**22 + 1},
    ],
    ids=["released", "stale", "its process is gone"],
)
def test_a_dead_lease_is_taken_over(place, state):
    leave(place, **state)
    lease = Lease(place)
    assert not lease.held()
    lease.acquire("ours")
    assert Lease(place).held()
    assert lease.confirm()
    assert lease.last()["copy"] == "ours"


def test_a_live_one_elsewhere_is_not(place):
    assert not Lease(place).held(), "nobody has been here"
    leave(place, time=time.time() - STALE_SECONDS / 2)
    with pytest.raises(LockedError, match=r"free in \d+ s"):
        Lease(place).acquire("ours")
    assert Lease(place).held()
    assert Lease(place).last()["copy"] == "theirs"


def test_who_lost_it_notices_and_leaves_it_alone(place):
    lease = Lease(place)
    lease.acquire("ours")
    leave(place)
    assert not lease.confirm()
    assert lease.lost_to == "elsewhere (process 7)"
    lease.release()
    assert lease.last()["copy"] == "theirs"
    assert not lease.last()["released"]


@pytest.mark.parametrize("before", [True, False])
def test_of_two_that_take_it_at_once_one_gets_in(place, monkeypatch, before):
    if before:
        leave(place, released=True)
    slower = Lease(place)
    # While the first waits and looks again, the second, who saw the same released lease or none, writes.
    monkeypatch.setattr("bench.store.remote.lease.time.sleep", lambda _: leave(place, copy="faster"))
    with pytest.raises(LockedError, match="elsewhere"):
        slower.acquire("slower")


def test_the_threads_that_renew_it_do_not_meet(tmp_path):
    """The uploads and the heartbeats of one process both confirm the lease, in threads of their own."""
    lease = Lease(Place(f"file://{tmp_path}/store/run"))
    lease.acquire("ours")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: lease.confirm(), range(100)))


def test_one_that_cannot_be_read_is_free(place):
    place.write(FILE, b'{"host": "els')
    Lease(place).acquire("ours")
