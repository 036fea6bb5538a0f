"""One writer: `.lease.json` in the store names who is writing the run and when it was last heard of.

It is taken over where its owner released it, is a dead process of this machine or worked in the same folder, or has not
been heard of for `STALE_SECONDS`. What it cannot promise: the clocks of two machines must agree to within a minute or
so; and two machines that begin within the same second may both get in where the store has no exclusive writing, or
where both take over a stale lease. Each looks again before it renews, so the one that lost stops uploading within
`PULSE_SECONDS`, after the trial it is at.
"""

import json
import os
import socket
import threading
import time
from typing import Any

from bench.errors import LockedError
from bench.store.remote.place import Place
from bench.store.trial_folder import is_alive

FILE = ".lease.json"
STALE_SECONDS = 180.0
PULSE_SECONDS = 15.0
SETTLE_SECONDS = 1.0


class Lease:
    """The right to write to `place`.

    Args:
        place: the run's store.
    """

    def __init__(self, place: Place):
        self.place = place
        self.lost_to: str | None = None
        self._owner: dict[str, Any] = {}
        self._lock = threading.Lock()

    def last(self) -> dict[str, Any]:
        """Who has it or had it last: host, pid, copy, time, released; empty where nobody had."""
        for _ in range(2):
            content = self.place.read(FILE)
            if content is None:
                return {}
            try:
                found = json.loads(content)
                return found if isinstance(found, dict) else {}
            except ValueError:  # perhaps it is being written just now
                time.sleep(SETTLE_SECONDS)
        return {}

    def acquire(self, copy: str) -> None:
        """Takes it.

        Args:
            copy: the identity of the local folder that will be written from.

        Raises:
            LockedError: somebody else has it.
        """
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "copy": copy, "since": time.time()}
        if self.place.create(FILE, self._content()):
            return
        self._refuse_others(self.last())
        self.place.write(FILE, self._content())
        time.sleep(SETTLE_SECONDS)  # of two that take it over at once, the one that wrote last has it
        self._refuse_others(self.last())

    def held(self) -> bool:
        """Whether anybody has it."""
        found = self.last()
        return bool(found) and not _free(found)

    def confirm(self) -> bool:
        """Renews it; False once somebody else has it, and ever after."""
        with self._lock:
            if self.lost_to is None:
                found = self.last()
                if found and not self._is_mine(found):
                    self.lost_to = _words(found)
                else:
                    self.place.write(FILE, self._content())
            return self.lost_to is None

    def release(self) -> None:
        """Gives it back, if it is still ours."""
        if self.confirm():
            self.place.write(FILE, self._content(released=True))

    def _content(self, released: bool = False) -> bytes:
        return json.dumps({**self._owner, "time": time.time(), "released": released}, indent=2).encode() + b"\n"

    def _is_mine(self, found: dict[str, Any]) -> bool:
        return all(found.get(key) == value for key, value in self._owner.items())

    def _refuse_others(self, found: dict[str, Any]) -> None:
        left_here = found.get("copy") == self._owner["copy"]  # the folder's own lock lets one process in
        if left_here or _free(found):
            return
        age = _age(found)
        what = f"{_words(found)} is writing this run, heard of {max(0.0, age):.0f} s ago"
        left = max(1.0, STALE_SECONDS - age)
        do = f"wait for it or stop it; if that machine is gone, the run is free in {left:.0f} s"
        raise LockedError(what, self.place.url, do)


def _age(owner: dict[str, Any]) -> float:
    return time.time() - float(owner.get("time", 0.0))


def _free(owner: dict[str, Any]) -> bool:
    """Whether whoever is named gave the lease back, is a dead process of this machine or was not heard of for long."""
    here = owner.get("host") == socket.gethostname()
    dead = here and not is_alive(int(owner.get("pid", 0)))
    return bool(owner.get("released")) or dead or _age(owner) > STALE_SECONDS


def _words(owner: dict[str, Any]) -> str:
    return f"{owner.get('host')} (process {owner.get('pid')})"
