"""ASHA and PBT under a real Ray: what is stopped is `pruned` with its cause, its cost is billed, the best goes on."""

import json
import signal
import subprocess
import time

import pytest

from bench.store.run_folder import RunFolder
from tests.bench.bodies import slow_method
from tests.bench.run.test_ray import command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SEARCH = """
search:
  algorithm: {algorithm}
  samples: 4
  seeds: [100]
  space:
    alignprop: {{learning_rate: {{loguniform: [1e-5, 1e-1]}}}}
"""


DIES_ONCE = """
import os
from pathlib import Path
from methods.alignprop import AlignProp

class DiesOnce(AlignProp):
    name = "dies-once"
    def step(self, prompts):
        left = Path(__file__).with_name("died")
        if self.iteration == 5 and not left.exists():
            left.touch()
            os._exit(9)
        return super().step(prompts)
"""


def slow(tmp_path):
    """Members give way only to those that run when they do: on a busy machine a process begins twenty seconds late."""
    return slow_method(tmp_path, "alignprop", "AlignProp", 2.0)


def arguments(sweep_file, algorithm, method="alignprop"):
    """The command line of a tuning of four configurations, each longer than a turn."""
    sweep_file.write_text(sweep_file.read_text() + SEARCH.format(algorithm=algorithm))
    method = f"methods=[{{name: '{method}', variant: alignprop, settings: {{batch_size: 2}}}}]"
    overrides = (method, "seeds=[0]", "budget={reward_queries: 16}")
    chosen = [word for text in overrides for word in ("--set", text)]
    return command(sweep_file, "--out", "run", *chosen)


def call(words, tmp_path):
    """Runs it to its end; the run, the record of its tuning, and what it said."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder.open(tmp_path / "run")
    return run, json.loads((run.path / "tuning" / "search.json").read_text())["methods"][0], done.stderr


@pytest.mark.slow
def test_asha_prunes_and_chooses_among_those_that_finished(sweep_file, tmp_path):
    # Whoever comes first goes on: with this seed the first configuration is the best, and the others fall behind it.
    run, method, _ = call([*arguments(sweep_file, "asha"), "--set", "search.seed=33"], tmp_path)
    folder = RunFolder.open(run.path / "tuning")
    rows = [trial.row() for trial in folder.trials()]
    pruned = [row for row in rows if row["status"] == "pruned"]
    assert len(rows) == 4
    assert pruned, "four configurations, one in three goes on"
    assert {row["status"] for row in rows} == {"done", "pruned"}
    for row in pruned:
        assert "stopped by ASHA at" in row["cause"]
        assert 4 <= row["axes"]["reward_queries"] < 16, "not before its grace, and not at its end"
        assert folder.trial(row["trial"]).load_checkpoint()["point"] == row["points"] - 1, "it could go on"
    assert method["statuses"] == {"done": 4 - len(pruned), "pruned": len(pruned)}
    assert method["cost"]["reward_queries"] == sum(row["axes"]["reward_queries"] for row in rows)
    (compared,) = run.trials()
    assert compared.record.seed == 0
    assert compared.record.spec["settings"]["learning_rate"] == method["chosen"]["learning_rate"]


@pytest.mark.slow
def test_pbt_copies_better_members_and_changes_their_settings(sweep_file, tmp_path):
    run, method, _ = call(arguments(sweep_file, "pbt", slow(tmp_path)), tmp_path)
    folder = RunFolder.open(run.path / "tuning")
    rows = {trial.key: {**trial.row(), "spec": trial.record.spec} for trial in folder.trials()}
    copies = [row for row in rows.values() if row.get("origin")]
    assert copies, "learning rates four decades apart: the worst give way"
    assert {row["status"] for row in rows.values()} <= {"done", "pruned"}
    for row in copies:
        origin = row["origin"]
        donor = folder.trial(origin["trial"]).read_curve()[: origin["point"] + 1]
        own = folder.trial(row["trial"]).read_curve()
        assert own[: origin["point"] + 1] == donor, "it has its donor's past"
        settings = [rows[key]["spec"]["settings"]["learning_rate"] for key in (row["trial"], origin["trial"])]
        assert settings[0] != settings[1]
    spent = sum(row["axes"]["reward_queries"] - row.get("origin", {}).get("axes", {}).get("reward_queries", 0)
                for row in rows.values())  # fmt: skip
    assert method["cost"]["reward_queries"] == spent
    assert method["statuses"].get("done", 0) == 4, "the population stays as large as it was"
    report = (run.path / "report" / "report.md").read_text()
    assert "the settings that its best member ended with" in report


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pbt_is_stopped_with_copies_on_the_way_and_goes_on_with_them(sweep_file, tmp_path):
    words = arguments(sweep_file, "pbt", slow(tmp_path))
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = RunFolder(tmp_path / "run" / "tuning")

    def copies():
        """Of better members, that run."""
        found = [folder.trial(path.name) for path in folder.trials_path.glob("alignprop-t??.*")]
        return [each for each in found if each.recorded_status() == "running"]

    while not copies():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    stopped = {path.name: folder.trial(path.name).recorded_status() for path in folder.trials_path.glob("*")}
    assert "running" not in stopped.values(), stopped
    assert "failed" not in stopped.values(), stopped
    assert "interrupted" in stopped.values()
    assert set(stopped) <= {row.trial for row in folder.planned()}, "a copy is in the plan"
    run, method, _ = call(words, tmp_path)
    rows = {trial.key: {**trial.row(), "spec": trial.record.spec} for trial in run.tuning.trials()}
    assert set(stopped) <= set(rows)
    assert {row["status"] for row in rows.values()} <= {"done", "pruned"}
    assert method["statuses"]["done"] == 4, "each member comes to its end once"
    for key in (key for key, status in stopped.items() if status == "interrupted"):
        assert rows[key]["status"] == "done" or "gave way to a copy of" in rows[key]["cause"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_member_of_pbt_that_died_has_failed_and_is_tried_again(sweep_file, tmp_path):
    (tmp_path / "ways.py").write_text(DIES_ONCE)
    words = arguments(sweep_file, "pbt", f"{tmp_path}/ways.py:DiesOnce")
    run, method, said = call(words, tmp_path)
    assert method["statuses"]["failed"] == 1
    assert method["statuses"]["done"] == 3
    (dead,) = [row for row in run.tuning.trials() if row.record.status == "failed"]
    assert "its process died without a word" in dead.record.cause
    assert "1 configuration failed; the same command tries again" in said
    run, method, said = call(words, tmp_path)
    assert method["statuses"].get("failed", 0) == 0, said
    assert method["statuses"]["done"] == 4
    assert run.tuning.trial(dead["trial"]).recorded_status() in ("done", "pruned")
