"""Installed sweeps are found by name; a file of that name comes first."""

import json
import shutil
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.sweep import prompts
from bench.sweep.load import load_sweep
from bench.sweep.shipped import SHIPPED, find_sweep, shipped, sweep_files


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder without sweeps."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["quickstart", "searched", "aesthetic"])
def test_an_installed_sweep_is_found_by_name(name):
    loaded = load_sweep(Path(name))
    assert loaded.sweep.name == name
    assert loaded.base == SHIPPED, "its prompt files lie beside it"


def test_the_prompts_of_the_shipped_tuning_are_prompts():
    loaded, notes = load_sweep(Path("searched")), list[str]()
    read = prompts.read(loaded.sweep.search.prompts.train, loaded.base, notes.append)
    assert (len(read), notes) == (45, []), "a comment in the file would be a prompt, of which gold knows no animal"


@pytest.mark.parametrize("path", sorted((SHIPPED / "tuning").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_the_tuning_are_sweeps(path):
    loaded = load_sweep(path)
    assert loaded.sweep.name == f"tuning-{path.stem}"


def test_a_file_of_that_name_comes_first(sweep_text):
    Path("quickstart").write_text(sweep_text)
    assert load_sweep(Path("quickstart")).sweep.name == "tiny"


def test_a_folder_of_that_name_does_not():
    Path("quickstart").mkdir()
    assert find_sweep(Path("quickstart")) == SHIPPED / "quickstart.yaml"


@pytest.mark.parametrize("path", ["./quickstart", "sweeps/quickstart", "quickstart.yaml", "../quickstart"])
def test_a_path_is_no_name(path):
    with pytest.raises(BenchError, match=r"no such file.*\n.*did you mean quickstart\?"):
        find_sweep(Path(path).absolute() if path.startswith(".") else Path(path))


def test_a_wrong_name_is_told_what_there_is(sweep_text):
    Path("my_own.yaml").write_text(sweep_text)
    with pytest.raises(BenchError, match=r"did you mean my_own\.yaml") as near:
        find_sweep(Path("my_on"))
    assert len(near.value.lines()) == 2
    with pytest.raises(BenchError) as far:
        find_sweep(Path("zzz"))
    assert "did you mean" not in str(far.value)
    assert all(name in str(far.value) for name in [*shipped(), "my_own.yaml"])


def test_bench_list_names_sweeps_as_the_command_line_does(cli, elsewhere, sweep_text, monkeypatch):
    Path("sweeps").mkdir()
    Path("sweeps/own.yaml").write_text(sweep_text)
    rows = json.loads(cli("list", "sweeps", "--json").out)
    names = [row["name"] for row in rows]
    assert names == [*shipped(), "sweeps/own.yaml"]
    assert all(find_sweep(Path(name)).is_file() for name in names)
    monkeypatch.chdir(SHIPPED.parent)
    assert list(sweep_files()) == list(shipped()), "in a clone each is named once"


def test_the_command_to_run_is_as_it_was_typed(cli):
    assert cli("plan", "quickstart").out.splitlines()[-1] == "run it: bench run quickstart"


def test_help_begins_with_an_installed_sweep(cli):
    assert "bench run quickstart" in cli("--help").out
    assert "quickstart" in shipped()


def test_a_copy_of_the_sweeps_is_a_folder_of_ones_own(elsewhere):
    shutil.copytree(SHIPPED, "sweeps")
    assert "sweeps/quickstart.yaml" in sweep_files()
    assert "quickstart" in sweep_files()
