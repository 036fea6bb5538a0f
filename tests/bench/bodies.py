"""What stands in for the trial loop where its numbers do not matter."""

import pandas as pd


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
