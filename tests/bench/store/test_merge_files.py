"""What must not be merged, what is copied, and how the sweep is written; a trial body writes its curve at once."""

import errno
import json
import shutil

import pytest

from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep, variants_of
from bench.sweep.yaml_source import read_yaml


@pytest.fixture
def run(cli, sweep_file, tmp_path, body):
    def call(name, *overrides):
        arguments = [argument for value in overrides for argument in ("--set", value)]
        answer = cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / name, *arguments)
        assert answer.code == 0, answer.err
        return RunFolder(tmp_path / name)

    return call


@pytest.fixture
def merge(cli, tmp_path):
    def call(*runs):
        return cli("merge", *(run.path for run in runs), "--out", tmp_path / "both")

    return call


def of_ddpo(run):
    return next(run.trial(row.trial) for row in run.planned() if row.method == "ddpo")


def test_a_trial_of_both_is_taken_where_it_got_furthest(cli, tmp_path, run):
    whole = run("a", "seeds=[0]")
    half = RunFolder(tmp_path / "b")
    shutil.copytree(whole.path, half.path)
    folder = of_ddpo(half)
    folder.cut(0)
    folder.write_status("interrupted", "stopped")
    assert cli("merge", half.path, whole.path).code == 0
    merged = RunFolder.open(tmp_path / "b-merged")
    assert {row.record.status for row in merged.trials()} == {"done"}
    assert len(merged.trial(folder.key).read_curve()) == 3


def edit_last_point(folder, change):
    points = [point.stored() for point in folder.read_curve()]
    change(points[-1])
    folder.curve_path.write_text("".join(f"{json.dumps(point)}\n" for point in points))


def test_a_trial_with_two_curves_is_a_conflict(cli, tmp_path, run):
    whole, other = run("a", "seeds=[0]"), RunFolder(tmp_path / "b")
    shutil.copytree(whole.path, other.path)
    folder = of_ddpo(other)
    edit_last_point(folder, lambda point: point["axes"].update(train_seconds=1.0))
    merged = cli("merge", whole.path, other.path, "--out", tmp_path / "same")
    assert merged.code == 0, f"seconds are the machine's own: {merged.err}"
    edit_last_point(folder, lambda point: point["values"]["train"].update(reward=0.9))
    answer = cli("merge", whole.path, other.path, "--out", tmp_path / "both")
    assert answer.code == 4
    assert f"{folder.key} ended with different curves" in answer.err
    assert not (tmp_path / "both").exists()


def test_another_comparison_is_refused(cli, tmp_path, run, merge):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]", "budget.reward_queries=12")
    answer = merge(first, second)
    assert answer.code == 4
    assert f"is another comparison than {first.path}: protocol.budget.limit" in answer.err
    third = RunFolder(tmp_path / "c")
    shutil.copytree(first.path, third.path)
    plan = json.loads((third.path / "plan.json").read_text())
    plan["protocol"]["reward"]["version"] = "another source under the same name"
    (third.path / "plan.json").write_text(json.dumps(plan))
    assert "protocol.reward.version" in merge(first, third).err
    assert merge(first).code == 2


def test_a_method_with_other_settings_is_refused(tmp_path, run, merge):
    answer = merge(run("a", "seeds=[0]"), run("b", "seeds=[1]", "methods.ddpo.settings.clip_range=1e-2"))
    assert answer.code == 4
    assert "ddpo is not trained as in" in answer.err
    assert not (tmp_path / "both").exists()


def test_a_trial_that_is_being_trained_is_not_merged(run, merge, tmp_path):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")
    trial = of_ddpo(second)
    trial.write_status("running")
    answer = merge(first, second)
    assert answer.code == 2
    assert answer.err.splitlines()[0] == f"error: {second.path}: {trial.key} is being trained"
    assert not (tmp_path / "both").exists()
    trial.write_status("interrupted", "stopped")
    assert merge(first, second).code == 0


@pytest.mark.parametrize("torn", [False, True])
def test_a_trial_that_begins_while_it_is_copied_is_not_merged(run, merge, tmp_path, monkeypatch, torn):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")
    trial = of_ddpo(second)
    trial.write_status("interrupted", "stopped")
    copytree = shutil.copytree

    def begins_meanwhile(source, target, *of_folders_in_it, **options):
        copied = copytree(source, target, *of_folders_in_it, **options)
        if source == trial.path:
            trial.write_status("running")
            if torn:
                raise shutil.Error([("checkpoint/point-0001.pt", "there", "[Errno 2] No such file or directory")])
        return copied

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", begins_meanwhile)
        answer = merge(first, second)
    assert answer.code == 2
    assert f"{trial.key} is being trained" in answer.err
    both = RunFolder(tmp_path / "both")
    assert not both.exists()
    assert not both.trial(trial.key).path.exists()
    trial.write_status("interrupted", "stopped")
    assert merge(first, second).code == 0, "the same folder will do"


def test_what_cannot_be_copied_is_one_sentence(run, merge, monkeypatch):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")

    def fail(source, target, **options):
        raise OSError(errno.EIO, "Input/output error", str(source))

    monkeypatch.setattr(shutil, "copytree", fail)
    answer = merge(first, second)
    assert answer.code == 2
    assert "cannot be copied (OSError: [Errno 5] Input/output error" in answer.err


def test_checkpoints_go_along_where_there_is_something_to_go_on_with(run, merge, tmp_path):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")
    trial = of_ddpo(second)
    trial.cut(1)
    trial.checkpoints.mkdir()
    trial.save_checkpoint({"point": 1})
    trial.write_status("interrupted", "stopped")
    left = of_ddpo(first)
    left.checkpoints.mkdir()
    left.save_checkpoint({"point": 2})  # its trial ended, and is about to drop it
    assert merge(first, second).code == 0
    both = RunFolder(tmp_path / "both")
    assert both.trial(trial.key).load_checkpoint() == {"point": 1}
    assert not both.trial(left.key).checkpoints.exists()


def variants(run):
    loaded = load_sweep(run.sweep_path)
    return [variant.name for variant in variants_of(loaded.sweep, loaded.root)]


def test_a_default_that_one_run_wrote_out_makes_no_second_method(run, merge, cli, tmp_path):
    first = run("a", "seeds=[0]")
    second = run("b", "seeds=[1]", "methods.alignprop.settings.weight_decay=1e-4")
    assert {row.identity for row in first.planned()} == {row.identity for row in second.planned()}
    assert merge(first, second).code == 0
    both = RunFolder(tmp_path / "both")
    assert variants(both) == ["base", "alignprop", "ddpo"]
    answer = cli("plan", both.sweep_path, "--out", both.path)
    assert answer.code == 0, answer.err
    assert answer.out.count(" done ") == 6


def test_grids_that_overlap_are_one(run, merge, tmp_path):
    method = "{name: ddpo, settings: {prompts_per_rollout: 2, images_per_prompt: 2}, grid: {learning_rate: %s}}"
    first = run("a", "seeds=[0]", f"methods=[{{name: base}}, {method % '[1e-3, 2e-3]'}]")
    second = run("b", "seeds=[1]", f"methods=[{{name: base}}, {method % '[2e-3, 4e-3]'}]")
    assert merge(first, second).code == 0
    both = RunFolder(tmp_path / "both")
    written = read_yaml(both.sweep_path).plain()
    assert [bool(entry.get("grid")) for entry in written["methods"]] == [False, True, False]
    planned = {row.variant for row in both.planned()}
    assert sorted(variants(both)) == sorted(planned)
    assert len(planned) == 4
