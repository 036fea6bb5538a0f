"""ASHA under a real Ray: what is stopped is `pruned` with its cause, its cost is billed, the best goes on."""

import json
import subprocess

import pytest

from bench.store.run_folder import RunFolder
from tests.bench.run.test_ray import command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SEARCH = """
search:
  algorithm: asha
  samples: 4
  seeds: [100]
  space:
    alignprop: {learning_rate: {loguniform: [1e-5, 1e-1]}}
"""


@pytest.mark.slow
def test_asha_prunes_and_chooses_among_those_that_finished(sweep_file, tmp_path):
    sweep_file.write_text(sweep_file.read_text() + SEARCH)
    method = "methods=[{name: alignprop, settings: {batch_size: 2}}]"
    # Whoever comes first goes on: with this seed the first configuration is the best, and the others fall behind it.
    overrides = (method, "seeds=[0]", "budget={reward_queries: 16}", "search.seed=33")
    words = command(sweep_file, "--out", "run", *(word for text in overrides for word in ("--set", text)))
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder.open(tmp_path / "run")
    method = json.loads((run.path / "tuning" / "search.json").read_text())["methods"][0]
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
    assert compared.planned.seed == 0
    assert compared.record.spec["settings"]["learning_rate"] == method["chosen"]["learning_rate"]
