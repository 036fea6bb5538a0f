"""Runs of two machines as one; what must not be merged is in test_merge_files.py."""

import json

import pytest

from bench.store.run_folder import RunFolder

pytestmark = pytest.mark.integration


@pytest.fixture
def run(cli, sweep_file, tmp_path):
    def call(name, *overrides):
        arguments = [argument for value in overrides for argument in ("--set", value)]
        answer = cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / name, *arguments)
        assert answer.code == 0, answer.err
        return tmp_path / name

    return call


def test_seeds_of_two_machines_make_one_run_that_has_nothing_left_to_do(cli, sweep_file, tmp_path, run):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")
    answer = cli("merge", first, second, "--out", tmp_path / "both", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert (said["trials"], said["shared"]) == (6, 0)
    merged = RunFolder.open(tmp_path / "both")
    assert {row.record.status for row in merged.trials()} == {"done"}
    assert set(merged.results()["seed"]) == {0, 1}
    assert (merged.report / "report.html").exists()
    again = cli("run", sweep_file, "--executor", "inline", "--out", merged.path)
    assert again.code == 0
    assert "6 done already" in again.err
    assert cli("plan", merged.sweep_path, "--json").code == 0
    assert cli("merge", first, second, "--out", merged.path).err.startswith("error: ")
