"""What two stores must have alike for their trials to be the same."""

import pandas as pd
from safetensors.torch import load_file

from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from tests.bench.run.test_trial import MACHINE, points


def weights(folder: TrialFolder) -> dict[str, list]:
    """The adapter's. Its file's bytes differ from run to run, as safetensors orders metadata by chance."""
    found = [load_file(path) for path in folder.adapter.glob("*.safetensors")]
    return {name: value.tolist() for tensors in found for name, value in tensors.items()}


def same_runs(one: RunFolder, other: RunFolder) -> None:
    """Every trial's curve, evaluation and adapter, and the tidy results, bit for bit but for seconds and memory."""
    keys = [row.trial for row in one.planned()]
    assert keys == [row.trial for row in other.planned()]
    for key in keys:
        first, second = one.trial(key), other.trial(key)
        assert [row.point for row in first.read_curve()] == list(range(len(first.read_curve())))
        assert points(first) == points(second)
        pd.testing.assert_frame_equal(first.read_evaluation(), second.read_evaluation(), check_exact=True)
        assert weights(first) == weights(second)
    results = [pd.read_parquet(run.results_path).drop(columns=list(MACHINE)) for run in (one, other)]
    pd.testing.assert_frame_equal(*results, check_exact=True)
