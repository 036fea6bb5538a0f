"""The lease of a run: `.lease.json` in the store names the process that writes the run, and its last renewal.

A lease can be taken over if its owner released it, is a dead process of this machine, worked in the same folder, or has
not renewed it for `STALE_SECONDS`. Limits: the clocks of two machines must agree to within about a minute. Of two
machines that begin within the same second, the one that writes last has the lease. The other notices it at once or, if
its network is slow, before it renews the lease; it then stops uploading within `PULSE_SECONDS`, after the trial that is
being uploaded.
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
        try:
            owner = json.loads(self.place.read(FILE) or b"{}")
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def acquire(self, copy: str) -> None:
        """Takes the lease.

        Args:
            copy: the identity of the local folder that is mirrored (see `Manifest.copy`).

        Raises:
            LockedError: another process has the lease.
        """
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "copy": copy, "since": time.time()}
        self._refuse_others()
        self._write()
        time.sleep(SETTLE_SECONDS)
        self._refuse_others()

    def held(self) -> bool:
        """Whether any process has the lease."""
        return not _free(self.last())

    def confirm(self) -> bool:
        """Renews the lease; returns False, from then on, if another process has taken it over."""
        with self._lock:  # uploads and heartbeats call this in threads of their own
            if self.lost_to is None:
                owner = self.last()
                if any(owner.get(key, value) != value for key, value in self._owner.items()):
                    self.lost_to = _describe(owner)
                else:
                    self._write()
            return self.lost_to is None

    def release(self) -> None:
        """Releases the lease if this process has it."""
        if self.confirm():
            self._write(released=True)

    def _write(self, released: bool = False) -> None:
        owner = {**self._owner, "time": time.time(), "released": released}
        self.place.write(FILE, json.dumps(owner, indent=2).encode() + b"\n")

    def _refuse_others(self) -> None:
        owner = self.last()
        same_folder = owner.get("copy") == self._owner["copy"]  # the folder's own lock lets only one process in
        if same_folder or _free(owner):
            return
        age = time.time() - owner["time"]
        what = f"{_describe(owner)} is writing this run; its lease was renewed {max(0.0, age):.0f} s ago"
        left = max(1.0, STALE_SECONDS - age)
        do = f"wait for it or stop it; if that machine is gone, the run is free in {left:.0f} s"
        raise LockedError(what, self.place.url, do)


def _free(owner: dict[str, Any]) -> bool:
    """Whether there is no owner, it released the lease or stopped renewing it, or is a dead process of this machine."""
    dead = owner.get("host") == socket.gethostname() and not psutil.pid_exists(int(owner.get("pid", 0)))
    return dead or bool(owner.get("released")) or time.time() - owner.get("time", 0.0) > STALE_SECONDS


def _describe(owner: dict[str, Any]) -> str:
    return f"{owner.get('host')} (process {owner.get('pid')})"
