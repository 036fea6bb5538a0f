"""Where weights are found: the hub's cache with one revision in it or two, a local path; no network."""

from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from rewards.published.weights import Weights

OWNER = "owner/tower"
TOWER = Weights(OWNER, ("config.json", "model.safetensors"), "model")
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def put(cache):
    """Puts files of a revision into the cache, which then knows it as the hub's main; their folder."""

    def call(revision, *names):
        home = cache / "models--owner--tower"
        folder = home / "snapshots" / revision
        for path in (folder, home / "refs"):
            path.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text(revision)
        (home / "refs" / "main").write_text(revision)
        return folder

    return call


@pytest.fixture
def hub(monkeypatch, put):
    """A hub whose main is `NEW`: its files, and what it was asked."""
    files, asked = list(TOWER.files), []

    def model_info(self, repository, timeout):
        asked.append((repository, timeout))
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files])

    def snapshot_download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(put(NEW, *(name for name in files if name in allow_patterns)))

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return SimpleNamespace(files=files, asked=asked)


def test_what_is_cached_is_found_without_the_hub(put, hub):
    folder = put(OLD, *TOWER.files)
    assert TOWER.find("some-reward") == folder
    assert Weights(OWNER, ("config.json",), "model").find("some-reward") == folder / "config.json"
    assert hub.asked == []


def test_two_revisions_are_not_mixed_offline(put):
    put(OLD, "config.json")
    put(NEW, "model.safetensors")
    assert [path is None for path in TOWER.cached().values()] == [True, False]
    with pytest.raises(FileNotFoundError) as caught:
        TOWER.find("some-reward")
    assert str(caught.value) == (
        "owner/tower (config.json) is not on this machine and cannot be fetched; where there is a network, "
        "`hf download owner/tower config.json model.safetensors` puts it into the cache, or name a folder with the "
        "files: reward: {name: some-reward, model: PATH}"
    )


def test_where_main_has_moved_on_all_files_are_fetched(put, hub):
    put(OLD, "config.json")
    folder = TOWER.find("some-reward")
    assert [(folder / name).read_text() for name in TOWER.files] == [NEW, NEW]
    assert hub.asked == [(OWNER, 10.0), (OWNER, list(TOWER.files))]
    assert TOWER.find("some-reward") == folder  # now from the cache
    assert len(hub.asked) == 2


def test_one_file_is_fetched(put, hub):
    path = Weights(OWNER, ("model.safetensors",), "model").find("some-reward")
    assert (path.name, path.read_text()) == ("model.safetensors", NEW)
    assert hub.asked[-1] == (OWNER, ["model.safetensors"])


def test_what_the_hub_lacks_cannot_be_fetched(hub):
    hub.files.remove("model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"owner/tower .* cannot be fetched") as caught:
        TOWER.find("some-reward")
    assert str(caught.value.__cause__) == "owner/tower has no model.safetensors"
    assert hub.asked == [(OWNER, 10.0)], "nothing was downloaded"


def test_a_local_path_goes_before_the_hub(tmp_path, put, hub):
    put(OLD, *TOWER.files)
    assert TOWER.find("some-reward", str(tmp_path)) == tmp_path
    assert hub.asked == []


@pytest.mark.parametrize("given", ["nowhere", "./no/where", "/no/where", "~/nowhere", "a/b/c"])
def test_a_name_that_is_no_hub_id_is_refused(hub, given):
    with pytest.raises(FileNotFoundError) as caught:
        TOWER.find("some-reward", given)
    assert str(caught.value) == f"there is no {given}; give `model`, a folder with the files of owner/tower"
    assert hub.asked == []
