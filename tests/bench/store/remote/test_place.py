"""A folder behind a URL: what is refused, and that every file appears there whole."""

import fsspec
import pytest

from bench.errors import BenchError
from bench.store.remote.place import Place, is_url, upload_folder


@pytest.fixture(params=["memory", "file", "shaky"])
def place(request, memory, shaky, tmp_path) -> Place:
    return Place(
        {"memory": "memory://store/run", "shaky": "shaky://store/run", "file": f"file://{tmp_path}/store/run"}[
            request.param
        ]
    )


def test_a_file_goes_there_and_back(place, tmp_path):
    assert place.listing() == {}
    assert place.read("a/b") is None
    (tmp_path / "b").write_bytes(b"one")
    place.upload(tmp_path / "b", "a/b")
    place.write("a/c", b"three")
    listed = place.listing()
    assert {name: entry.size for name, entry in listed.items()} == {"a/b": 3, "a/c": 5}
    place.download("a/b", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"one"
    place.write("a/b", b"two")
    assert place.listing()["a/b"].mark != listed["a/b"].mark, "as long as before, and another file"
    assert place.listing()["a/c"] == listed["a/c"]
    place.remove("a/b")
    place.remove("a/b")
    assert set(place.listing()) == {"a/c"}


def test_a_torn_write_leaves_the_old_file(shaky):
    place = Place("shaky://store/run")
    place.write("record", b"the old one")
    shaky.before = staticmethod(lambda operation, path: operation == "put")
    with pytest.raises(ConnectionResetError):
        place.write("record", b"the new one")
    assert place.read("record") == b"the old one"


def test_a_name_does_not_lead_out_of_the_folder(memory):
    place = Place("memory://store/run")
    place.fs.store["/store/run/../../evil"] = place.fs.store["/store/run/good"] = object_of(place, b"x")
    assert set(place.listing()) == {"good"}


def object_of(place, content):
    place.write("x", content)
    return place.fs.store.pop("/store/run/x")


def test_the_same_folder_however_it_is_written(memory):
    assert Place("memory://a/b").slug == Place("memory://a/b/").slug
    assert Place("memory://a/b").slug != Place("memory://a-b").slug
    assert is_url("s3://bucket/x")
    assert not any(map(is_url, ("runs/x", "/runs/x", "./a://b", "x.yaml")))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nope://a/b", "Protocol not known: nope"),
        ("absent://a/b", "Install no_such_package to reach it"),
        ("sftp://me:secret@host/a", "holds a password"),
    ],
)
def test_what_cannot_be_is_one_sentence(url, what):
    fsspec.register_implementation(
        "absent", "no_such_package.Store", errtxt="Install no_such_package to reach it", clobber=True
    )
    with pytest.raises(BenchError) as error:
        Place(url)
    assert what in error.value.lines()[0]
    assert "secret" not in str(error.value)
    assert len(error.value.lines()) == (2 if "secret" in url else 1)


def test_a_folder_is_uploaded_and_a_failure_named(shaky, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"a")
    place = Place("shaky://site/report")
    assert upload_folder(tmp_path, place) == ["shaky:///site/report/figures/a.png"]
    shaky.before = staticmethod(lambda operation, path: True)
    with pytest.raises(BenchError, match=r"cannot be written \(ConnectionResetError"):
        upload_folder(tmp_path, place)
