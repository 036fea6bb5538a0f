"""ASHA and PBT under a real Ray: what is stopped is `pruned` with its cause, its cost is billed, the best goes on."""

import json
import subprocess

import pytest

from bench.store import RunFolder
from tests.bench.test_ray import command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SEARCH = """
search:
  algorithm: {algorithm}
  samples: 4
  seeds: [100]
  space:
    alignprop: {{learning_rate: {{loguniform: [1e-5, 1e-1]}}}}
"""


def tuned(sweep_file, tmp_path, algorithm):
    """Runs it; the run and the record of its tuning."""
    sweep_file.write_text(sweep_file.read_text() + SEARCH.format(algorithm=algorithm))
    overrides = ("methods=[{name: alignprop, settings: {batch_size: 2}}]", "seeds=[0]", "budget={reward_queries: 16}")
    chosen = [word for text in overrides for word in ("--set", text)]
    arguments = command("run", sweep_file, "--out", "run", *chosen)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder.open(tmp_path / "run")
    return run, json.loads((run.path / "tuning" / "search.json").read_text())["methods"][0]


@pytest.mark.slow
def test_asha_prunes_and_chooses_among_those_that_finished(sweep_file, tmp_path):
    run, method = tuned(sweep_file, tmp_path, "asha")
    folder = RunFolder.open(run.path / "tuning")
    rows = folder.trials()
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
    assert compared["seed"] == 0
    assert compared["spec"]["settings"]["learning_rate"] == method["chosen"]["learning_rate"]


@pytest.mark.slow
def test_pbt_copies_better_members_and_changes_their_settings(sweep_file, tmp_path):
    run, method = tuned(sweep_file, tmp_path, "pbt")
    folder = RunFolder.open(run.path / "tuning")
    rows = {row["trial"]: row for row in folder.trials()}
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
