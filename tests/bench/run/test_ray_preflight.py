"""What Ray would find out after minutes is known before it starts: no room for its files, no cluster at an address."""

import socket
import threading
import time
from collections import namedtuple

import pytest

from bench.commands import doctor
from bench.errors import BenchError
from bench.run.executors import ray_preflight, ray_tune
from bench.run.executors.ray_preflight import OBJECT_STORE_BYTES, SESSION_BYTES, SETTINGS, check_cluster, check_room

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where Ray's files go."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def free(monkeypatch):
    """Says how many bytes are free among the temporary files and in shared memory."""

    def say(files, shared=2**40):
        def usage(path):
            return Usage(0, 0, shared if path == ray_preflight.SHARED_MEMORY else files)

        monkeypatch.setattr(ray_preflight.shutil, "disk_usage", usage)

    return say


def test_a_folder_with_room_is_made_as_ray_would_and_nothing_is_left_in_it(place):
    check_room()
    assert list(place.rglob("*")) == [place / "ray"]


def test_what_is_no_folder_is_named(place):
    place.write_text("a file")
    with pytest.raises(BenchError) as error:
        check_room()
    assert error.value.lines() == [
        f"TMPDIR ({place}/ray): Ray's temporary files cannot be written (Not a directory)",
        "set TMPDIR to a folder with room, or use --executor inline",
    ]


def test_rays_own_variable_comes_first(place, tmp_path, monkeypatch):
    place.write_text("a file")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "own"))
    check_room()
    assert (tmp_path / "own" / "ray").is_dir()
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    with pytest.raises(BenchError, match="RAY_TMPDIR"):
        check_room()


@pytest.mark.parametrize(
    ("files", "shared", "fits"),
    [
        (SESSION_BYTES, 2**40, True),
        (SESSION_BYTES - 1, 2**40, False),
        (SESSION_BYTES + OBJECT_STORE_BYTES, 0, True),
        (SESSION_BYTES + OBJECT_STORE_BYTES - 1, OBJECT_STORE_BYTES - 1, False),
    ],
)
def test_room_is_counted_with_what_shared_memory_does_not_hold(place, free, files, shared, fits):
    free(files, shared)
    if fits:
        check_room()
        return
    with pytest.raises(BenchError, match=r"Ray needs \d+ MB of space for temporary files and \d+ MB are free"):
        check_room()


def test_without_shared_memory_all_of_it_lies_among_the_files(place, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_preflight, "SHARED_MEMORY", tmp_path / "none")
    assert ray_preflight._shared_memory() == 0


def test_a_full_disk_is_called_so(place, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ray_preflight, "try_to_write", full)
    with pytest.raises(BenchError, match="no space is left"):
        check_room()


def test_it_is_known_before_anything_is_written(cli, sweep_file, place, tmp_path):
    place.write_text("a file")
    answer = cli("run", sweep_file, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "TMPDIR" in answer.err
    assert not (tmp_path / "run").exists()


# -- who listens at an address -------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    """Listens, and gives `answer` to whoever asks; its address."""
    opened = []

    def listen(answer):
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)

        def serve():
            connection, _ = server.accept()
            opened.append(connection)
            connection.recv(1024)
            if answer is not None:
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 400 Bad request\r\n\r\n", "another protocol"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "another protocol"),
        (None, "nothing"),
    ],
)
def test_something_else_listens_there(listener, monkeypatch, answer, said):
    monkeypatch.setattr(ray_preflight, "CONNECT_SECONDS", 0.3)
    address = listener(answer)
    begun = time.monotonic()
    with pytest.raises(BenchError) as error:
        ray_tune.start_ray(1, address)
    assert time.monotonic() - begun < 30
    assert error.value.lines() == [
        f"--address {address}: the service that listens there is not a Ray cluster: it answers with {said}",
        "name the HOST:PORT that `ray start --head` prints",
    ]


def test_what_speaks_grpc_is_left_to_ray(listener):
    check_cluster(listener(bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])))
    check_cluster("auto")


@pytest.mark.parametrize(
    "address", ["localhost", "127.0.0.1:99999", "host:port", "ray://host", "http://a:1", ":6379", "local"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(BenchError, match="is not HOST:PORT"):
        check_cluster(address)


# -- bench doctor --------------------------------------------------------------------------------------------------


def test_the_doctor_tries_to_write_where_runs_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctor._disk()[0] in ("ok", "note")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").write_text("a file")
    state, text = doctor._disk()
    assert (state, text) == ("missing", "runs/ cannot be written (Not a directory); use --out with `bench run`")
