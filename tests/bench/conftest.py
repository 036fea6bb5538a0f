"""A small valid sweep on the tiny model, and the command line in process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import bench.run.worker
from bench.cli import run_command
from bench.store.trial_folder import TrialFolder
from tests.bench.bodies import add_point, fake_points

SWEEP = """\
schema: 1
name: tiny
model: {model}
reward: colourfulness
prompts:
  train: [a cat, a dog, a fox]
  heldout: [two dogs]
sampler: {{steps: 3}}
methods:
  - name: base
  - name: alignprop
    settings:
      batch_size: 2
  - name: ddpo
    settings: {{prompts_per_rollout: 2, images_per_prompt: 2}}
seeds: [0, 1]
budget:
  reward_queries: 8
evaluate:
  every: 4
  sampler: {{steps: 2, eta: 0.0}}
"""


@dataclass
class Answer:
    """What a command line said."""

    code: int
    out: str
    err: str


@pytest.fixture
def sweep_text(tiny_model: Path) -> str:
    return SWEEP.format(model=tiny_model)


@pytest.fixture
def sweep_file(tmp_path: Path, sweep_text: str) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text)
    return path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs `bench ARGUMENTS` in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Reports have no figures: hundreds of runs would each draw for two seconds what tests/reports looks at. A module
    that asks for them says so by a fixture of this name.
    """
    monkeypatch.setattr("reports.figures.curves.panels", lambda frame: [])
    monkeypatch.setattr("reports.figures.goodhart.pairs", lambda frame: [])
    monkeypatch.setattr("reports.writers.exports.figures", lambda document, kind, shown=False: {})


@pytest.fixture(autouse=True)
def memory_as_it_is(monkeypatch):
    """A trial begins without returning memory: among so many modules that takes as long as a fifth of a tiny trial."""
    monkeypatch.setattr("bench.run.trial.return_freed_memory", lambda: None)


@pytest.fixture
def body(monkeypatch):
    """Replaces the trial loop; `body.calls` are the trials that ran, `body.special` what some variants do instead."""

    class Body:
        def __init__(self):
            self.calls = []
            self.special = {}

        def __call__(self, trial, folder):
            self.calls.append((trial.variant, trial.seed))
            self.special.get(trial.variant, fake_points)(trial, folder)

    body = Body()
    monkeypatch.setattr(bench.run.worker, "run_trial", body)
    return body


@pytest.fixture
def ends_meanwhile(monkeypatch):
    """Has a trial come to its end between the first two looks at its folder."""
    looks = []

    def arm(folder):
        def after(name):
            look = getattr(TrialFolder, name)

            def looked(self):
                found = look(self)
                looks.append(name)
                if len(looks) == 1:
                    add_point(folder, 1)
                    folder.write_status("done")
                return found

            return looked

        for name in ("read", "read_curve"):
            monkeypatch.setattr(TrialFolder, name, after(name))

    return arm
