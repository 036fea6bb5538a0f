"""What stands in for the trial loop, and for a trial, where their numbers do not matter; a method that takes time."""

import pandas as pd

from bench.store.records import PlannedTrial
from bench.store.trial_folder import TrialFolder


def fake_points(trial, folder, count=3):
    """A body that writes a plausible curve at once, resuming from its checkpoint."""
    state = folder.load_checkpoint()
    done = state["point"] if state else -1
    folder.cut(done)
    for point in range(done + 1, count):
        spent = trial.budget.limit * point / 2
        value = 1.0 + point * (trial.method != "base")
        folder.write_evaluation(
            pd.DataFrame(
                {"point": point, "split": "train", "metric": "reward", "prompt": ["a cat"], "sample": 0, "value": value}
            )
        )
        folder.append_point(point, {trial.budget.axis: spent, "steps": point}, {"train": {"reward": value}})
        folder.heartbeat(spent / trial.budget.limit, value)
        folder.save_checkpoint({"point": point})


def add_point(folder, point, value=1.0):
    folder.append_point(point, {"steps": point}, {"train": {"reward": value}}, {"loss": 0.5})


def one_trial(run) -> TrialFolder:
    """A trial that is running, with one point, in a run of its own."""
    row = PlannedTrial(sweep="s", trial="ddpo-s0-x", method="ddpo", variant="ddpo", seed=0, identity="x")
    run.write_planned({}, [row], budget={"axis": "steps", "limit": 2})
    folder = run.trial("ddpo-s0-x")
    folder.write_status("running")
    add_point(folder, 0)
    return folder


SLOW = """
import time
from methods.{module} import {base}

class Slow({base}):
    name = "slow"
    def step(self, prompts):
        time.sleep({seconds})
        return super().step(prompts)
"""


def slow_method(folder, module, base, seconds):
    """Writes a method like `methods.module.base` whose steps take so much longer; what a sweep calls it."""
    path = folder / "slow.py"
    path.write_text(SLOW.format(module=module, base=base, seconds=seconds))
    return f"{path}:Slow"
