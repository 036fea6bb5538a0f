"""What Ray would find out after minutes, or take for something else.

No room where it writes, and no cluster where it is to join one.
"""

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from bench.errors import BenchError, disk_full
from bench.store.files import try_to_write

OBJECT_STORE_BYTES = 80 * 2**20
"""Near Ray's minimum: nothing large goes through it."""

SESSION_BYTES = 16 * 2**20
"""Logs and sockets of a Ray that lasts as long as a run."""

SHARED_MEMORY = Path("/dev/shm")

KNOCK_SECONDS = 10.0

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, which gRPC is made of, begins: the preface and settings that are empty (RFC 9113, 3.4)."""

FRAME_BYTES, SETTINGS = 9, 4
"""A frame's header, and in its fourth byte the type of the first one that a server must send."""

ANSWERS = "name the HOST:PORT that `ray start --head` prints"


def check_room() -> None:
    """Whether a local Ray finds room where it writes: `RAY_TMPDIR`, `TMPDIR` or /tmp, in this order.

    Raises:
        BenchError: nothing can be written there, or too little.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "TMPDIR")
    folder = Path(os.environ.get(name, "/tmp"), "ray")
    do = f"set {name} to a folder with room, or use --executor inline"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_to_write(folder)
    except OSError as error:
        full = "no space is left for Ray's temporary files"
        what = full if disk_full(error) else f"Ray's temporary files cannot be written ({error.strerror})"
        raise BenchError(what, f"{name} ({folder})", do) from error
    wanted = SESSION_BYTES + (0 if _shared_memory() >= OBJECT_STORE_BYTES else OBJECT_STORE_BYTES)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        what = f"Ray needs {wanted / 1e6:.0f} MB of space for temporary files and {free / 1e6:.0f} MB are free"
        raise BenchError(what, f"{name} ({folder})", do)


def _shared_memory() -> int:
    """Bytes that are free for Ray's object store, which lies among the temporary files where they do not suffice."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def knock(address: str) -> None:
    """Whether what listens at HOST:PORT speaks as a Ray cluster does. Ray itself would ask for minutes.

    Raises:
        BenchError: the address is none, or something else listens there.
        OSError: nothing does.
    """
    if address == "auto":  # Ray looks for a cluster of this machine, in a file
        return
    where = f"--address {address}"
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("", "ray"):
        raise BenchError("is no HOST:PORT", where, ANSWERS)
    with socket.create_connection((host, port), timeout=KNOCK_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":  # it greets otherwise
            return
        try:
            connection.sendall(GREETING)
            answer = _read(connection, FRAME_BYTES)
        except OSError:
            answer = b""
    if len(answer) < FRAME_BYTES or answer[3] != SETTINGS:
        said = "does not answer as one" if answer else "says nothing"
        raise BenchError(f"what listens there is not a Ray cluster: it {said}", where, ANSWERS)


def _read(connection: socket.socket, count: int) -> bytes:
    """At most `count` bytes: fewer where the other side closes."""
    found = b""
    while len(found) < count and (more := connection.recv(count - len(found))):
        found += more
    return found
