"""Who holds a lock: written into the locked file, for whoever finds it locked."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil

from bench.errors import one_line


def sign(lock: Path, command: str | None = None) -> None:
    """Leaves word of this process in the file `lock`, whose lock it holds.

    What a holder before it has left is replaced. What is not ours stays: where a file system knows no locks, `filelock`
    keeps notes of its own there. A full disk leaves the holder unnamed and the lock as good.
    """
    word = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": command}
    with suppress(OSError):
        before = lock.read_bytes()
        if not before or before.startswith(b"{"):
            lock.write_text(json.dumps(word), encoding="utf-8")


def holder(lock: Path) -> str:
    """Who has locked the file: `: process 7 on HOST since 2026-11-30 12:03:04 (COMMAND)`; empty where it does not say.

    A process of this machine that is gone is none: whoever has the lock now has not signed yet.
    """

    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
        pid, host, since, command = found["pid"], found["host"], float(found["since"]), found["command"]
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    if host == socket.gethostname() and not psutil.pid_exists(pid):
        return ""
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    return f": process {pid} on {host} since {begun}" + (f" ({one_line(command, 160)})" if command else "")
