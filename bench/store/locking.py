"""The holder of a lock, written into the lock's file so that an error can name it."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil

from bench.errors import one_line


def sign(lock: Path, command: str | None = None) -> None:
    """Writes this process, the lock's holder, into the lock's file.

    The entry of an earlier holder is replaced. Other content stays: `filelock` keeps its own notes there on file
    systems without locks. If the disk is full, the holder is not named; the lock holds nevertheless.

    Args:
        lock: the lock's file; the caller holds the lock.
        command: the command line of this process.
    """
    entry = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": command}
    with suppress(OSError):
        before = lock.read_bytes()
        if not before or before.startswith(b"{"):
            lock.write_text(json.dumps(entry), encoding="utf-8")


def holder(lock: Path) -> str:
    """The lock's holder as text: `: process 7 on HOST since 2026-11-30 12:03:04 (COMMAND)`; empty if unknown.

    A process of this machine that no longer runs is not named: the present holder has not signed yet.
    """
    try:
        entry = json.loads(lock.read_text(encoding="utf-8"))
        pid, host, since, command = entry["pid"], entry["host"], float(entry["since"]), entry["command"]
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    if host == socket.gethostname() and not psutil.pid_exists(pid):
        return ""
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    return f": process {pid} on {host} since {begun}" + (f" ({one_line(command, 160)})" if command else "")
