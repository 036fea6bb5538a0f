"""Checks before Ray starts, which Ray itself would fail after minutes or with a misleading error.

They find a full disk under Ray's temporary files, and an address at which no Ray cluster listens.
"""

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from bench.errors import BenchError, disk_full
from bench.store.files import try_to_write

OBJECT_STORE_BYTES = 80 * 2**20
"""Size of Ray's object store, near Ray's minimum, as nothing large goes through it."""

SESSION_BYTES = 16 * 2**20
"""Room for the logs and sockets of a local Ray during a run."""

SHARED_MEMORY = Path("/dev/shm")

CONNECT_SECONDS = 10.0

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first bytes of an HTTP/2 client, and so of gRPC: the preface and empty settings (RFC 9113, section 3.4)."""

FRAME_BYTES, SETTINGS = 9, 4
"""Length of an HTTP/2 frame's header, and the type, its fourth byte, of the frame that a server sends first."""

ADDRESS_HINT = "name the HOST:PORT that `ray start --head` prints"


def check_room() -> None:
    """Checks that the folder of Ray's temporary files has room: `RAY_TMPDIR`, else `TMPDIR`, else /tmp.

    Raises:
        BenchError: the folder cannot be written, or has too little room.
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
    """Free bytes of shared memory. If they are too few, Ray puts its object store among its temporary files."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def check_cluster(address: str) -> None:
    """Checks that a Ray cluster listens at HOST:PORT.

    Raises:
        BenchError: the address is not HOST:PORT, or another service listens there.
        OSError: nothing listens there.
    """
    if address == "auto":  # Ray reads the address of this machine's cluster from a file
        return
    where = f"--address {address}"
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("", "ray"):
        raise BenchError("is not HOST:PORT", where, ADDRESS_HINT)
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":  # with TLS the first bytes differ
            return
        try:
            connection.sendall(GREETING)
            answer = _read(connection, FRAME_BYTES)
        except OSError:
            answer = b""
    if len(answer) < FRAME_BYTES or answer[3] != SETTINGS:
        reply = "another protocol" if answer else "nothing"
        raise BenchError(
            f"the service that listens there is not a Ray cluster: it answers with {reply}", where, ADDRESS_HINT
        )


def _read(connection: socket.socket, count: int) -> bytes:
    """The next `count` bytes, or fewer if the other side closes the connection."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data
