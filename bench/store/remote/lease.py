"""The lease of a run: `.lease.json` in the store names the process that writes the run, and its last renewal.

A lease can be taken over if its owner released it, is a dead process of this machine, worked in the same folder, or has
not renewed it for `STALE_SECONDS`. Limits: the clocks of two machines must agree to within about a minute. Two machines
that begin within the same second may both get the lease if the store has no exclusive writing, or if both take over a
stale lease. Each of them checks the lease before it renews it, so the one that lost it stops uploading within
`PULSE_SECONDS`, after the trial that it is uploading.
"""

import json
import os
import socket
import threading
import time
from typing import Any

import psutil

from bench.errors import LockedError
from bench.store.remote.place import Place

FILE = ".lease.json"
STALE_SECONDS = 180.0
"""The age from which a lease that was not renewed is free."""
PULSE_SECONDS = 15.0
"""The time between two renewals."""
SETTLE_SECONDS = 1.0
"""The time after which a concurrent write of the lease is over."""


class Lease:
    """The right of one process to write to a store.

    Args:
        place: the run's store.

    Attributes:
        lost_to: the host and process that took the lease over; None while this process has it.
    """

    def __init__(self, place: Place):
        self.place = place
        self.lost_to: str | None = None
        self._owner: dict[str, Any] = {}
        self._lock = threading.Lock()

    def last(self) -> dict[str, Any]:
        """The entry of the present or last owner: host, pid, copy, since, time, released; empty if there was none."""
        for _ in range(2):
            content = self.place.read(FILE)
            if content is None:
                return {}
            try:
                owner = json.loads(content)
                return owner if isinstance(owner, dict) else {}
            except ValueError:  # perhaps it is being written
                time.sleep(SETTLE_SECONDS)
        return {}

    def acquire(self, copy: str) -> None:
        """Takes the lease.

        Args:
            copy: the identity of the local folder that is mirrored (see `Manifest.copy`).

        Raises:
            LockedError: another process has the lease.
        """
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "copy": copy, "since": time.time()}
        if self.place.create(FILE, self._content()):
            return
        self._refuse_others(self.last())
        self.place.write(FILE, self._content())
        time.sleep(SETTLE_SECONDS)  # if two processes take it over at once, the last writer has it
        self._refuse_others(self.last())

    def held(self) -> bool:
        """Whether any process has the lease."""
        owner = self.last()
        return bool(owner) and not _free(owner)

    def confirm(self) -> bool:
        """Renews the lease; returns False, from then on, if another process has taken it over."""
        with self._lock:
            if self.lost_to is None:
                owner = self.last()
                if owner and not self._is_mine(owner):
                    self.lost_to = _describe(owner)
                else:
                    self.place.write(FILE, self._content())
            return self.lost_to is None

    def release(self) -> None:
        """Releases the lease if this process has it."""
        if self.confirm():
            self.place.write(FILE, self._content(released=True))

    def _content(self, released: bool = False) -> bytes:
        return json.dumps({**self._owner, "time": time.time(), "released": released}, indent=2).encode() + b"\n"

    def _is_mine(self, owner: dict[str, Any]) -> bool:
        return all(owner.get(key) == value for key, value in self._owner.items())

    def _refuse_others(self, owner: dict[str, Any]) -> None:
        same_folder = owner.get("copy") == self._owner["copy"]  # the folder's own lock lets only one process in
        if same_folder or _free(owner):
            return
        age = _age(owner)
        what = f"{_describe(owner)} is writing this run; its lease was renewed {max(0.0, age):.0f} s ago"
        left = max(1.0, STALE_SECONDS - age)
        do = f"wait for it or stop it; if that machine is gone, the run is free in {left:.0f} s"
        raise LockedError(what, self.place.url, do)


def _age(owner: dict[str, Any]) -> float:
    """Seconds since the lease was renewed."""
    return time.time() - float(owner.get("time", 0.0))


def _free(owner: dict[str, Any]) -> bool:
    """Whether the owner released the lease, is a dead process of this machine, or has not renewed it for long."""
    here = owner.get("host") == socket.gethostname()
    dead = here and not psutil.pid_exists(int(owner.get("pid", 0)))
    return bool(owner.get("released")) or dead or _age(owner) > STALE_SECONDS


def _describe(owner: dict[str, Any]) -> str:
    return f"{owner.get('host')} (process {owner.get('pid')})"
