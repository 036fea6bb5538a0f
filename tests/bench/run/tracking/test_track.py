"""`track:` in a sweep: what may be written, what it comes to, and what is said of mistakes."""

import io
from importlib.metadata import PackageNotFoundError

import pytest

from bench.build.trial_spec import Budget
from bench.plan import preflight
from bench.run.progress import Lines, watching
from bench.run.tracking.follow import tracking_folder
from bench.store.files import write_json
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from bench.sweep.schema import Track
from tests.bench.planned import plan


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Every package of a tracker, as far as the plan asks."""
    monkeypatch.setattr(preflight, "version", lambda name: "999")


def written(sweep_file, track):
    sweep_file.write_text(sweep_file.read_text() + f"track: {track}\n")
    return load_sweep(sweep_file).sweep.track


@pytest.mark.parametrize(
    ("text", "tensorboard", "services"),
    [
        ("[tensorboard]", True, {}),
        ("tensorboard", True, {}),
        ("none", False, {}),
        ("[]", False, {}),
        ("wandb", True, {"wandb": {}}),
        ("[mlflow, trackio]", True, {"mlflow": {}, "trackio": {}}),
        ("{wandb: {project: mine, tags: [a, b]}}", True, {"wandb": {"project": "mine", "tags": ("a", "b")}}),
        ("{tensorboard: false, mlflow: }", False, {"mlflow": {}}),
        ("{tensorboard: , trackio: {space_id: me/mine}}", True, {"trackio": {"space_id": "me/mine"}}),
    ],
)
def test_what_may_be_written(sweep_file, text, tensorboard, services):
    track = written(sweep_file, text)
    assert track.tensorboard is tensorboard
    assert {name: options.model_dump(exclude_none=True) for name, options in track.services.items()} == services


def test_by_default_event_files_and_nothing_else(sweep_file):
    assert load_sweep(sweep_file).sweep.track == Track(tensorboard=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[wandd]", "tiny.yaml:22: track: there is no tracker 'wandd'; did you mean wandb?"),
        ("neptune", "tiny.yaml:22: track: there is no tracker 'neptune'; known: tensorboard, wandb, mlflow, trackio"),
        ("[wandb, wandb]", "tiny.yaml:22: track: 'wandb' appears twice"),
        ("3", "tiny.yaml:22: track: expected names of trackers"),
        ("{wandb: {projct: x}}", "tiny.yaml:22: track.wandb.projct: unknown key; did you mean project?"),
        ("{wandb: {mode: off-line}}", "tiny.yaml:22: track.wandb.mode: 'off-line' is none of online, offline"),
        ("{mlflow: {tracking_uri: https://me:secret@host}}", "track.mlflow.tracking_uri: holds a password"),
        ("{wandb: {tags: a}}", "tiny.yaml:22: track.wandb.tags: expected a list"),
        ("{wandb: true}", "tiny.yaml:22: track.wandb: expected a mapping"),
        ("{mlfow: {}}", "tiny.yaml:22: track.mlfow: unknown key; did you mean mlflow?"),
        ("{tensorboard: {dir: x}}", "tiny.yaml:22: track.tensorboard: expected true or false"),
    ],
)
def test_mistakes_are_told_with_their_line(cli, sweep_file, text, said):
    sweep_file.write_text(sweep_file.read_text() + f"track: {text}\n")
    answer = cli("plan", sweep_file)
    assert answer.code == 2
    assert said in answer.err
    assert "secret" not in answer.err
    assert len(answer.err.strip().splitlines()) <= 3


def test_a_package_that_is_missing_is_told_when_the_sweep_is_planned(cli, sweep_file, monkeypatch, tmp_path):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(preflight, "version", version)
    for verb in ("plan", "run"):
        answer = cli(verb, sweep_file, "--set", "track=[wandb]", "--out", tmp_path / "run")
        assert answer.code == 2
        assert "track" in answer.err
        assert "wandb needs wandb>=0.19: pip install" in answer.err
    assert not (tmp_path / "run").exists()
    assert cli("plan", sweep_file, "--set", "track=tensorboard").code == 0


def test_a_trials_identity_does_not_know_of_it(sweep_file):
    plain = plan(load_sweep(sweep_file))
    shown = plan(load_sweep(sweep_file, overrides=["track={wandb: {project: mine}}"]))
    assert [trial.key for trial in plain] == [trial.key for trial in shown]
    assert shown[0].track.services["wandb"].project == "mine"


def test_a_service_that_fails_is_told_once_a_run(sweep_file, tmp_path):
    trials = plan(load_sweep(sweep_file))[:2]
    run, said = RunFolder(tmp_path / "run"), io.StringIO()
    with watching(trials, run, said):
        for trial in trials:
            folder = run.trial(trial.key)
            folder.write_status("running", started=0.0)
            tracking_folder(folder).mkdir()
            write_json(tracking_folder(folder) / "wandb.json", {"id": "x", "problem": "UsageError: not logged in"})
            write_json(tracking_folder(folder) / "mlflow.json", {"id": "x", "problem": None})
    warnings = [line for line in said.getvalue().splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "wandb fails and trials go on without it: UsageError: not logged in" in warnings[0]
    assert str(tracking_folder(run.trial(trials[0].key)) / "wandb.log") in warnings[0]


def test_lines_warn_in_a_line_of_their_own():
    stream = io.StringIO()
    Lines(Budget(axis="steps", limit=1), stream).warn("something")
    assert stream.getvalue() == "warning: something\n"
