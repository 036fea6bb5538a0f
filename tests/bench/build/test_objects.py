"""What a trial's precision means for its weights and for the arithmetic of a GPU."""

import pytest
import torch

from bench.build.objects import dtype_of, set_arithmetic
from bench.sweep.schema import Resources
from rewards.containment import restored
from tests.bench.plan.test_planner import identities
from tests.bench.run.test_trial import make_trial


@pytest.mark.parametrize(
    ("precision", "dtype", "tf32"),
    [("fp32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)],
)
def test_only_tf32_lets_a_gpu_shorten_what_it_multiplies(precision, dtype, tf32, tiny_model):
    trial = make_trial(tiny_model, precision=precision, gpus=1.0)
    assert dtype_of(trial) == dtype
    with restored():
        set_arithmetic("fp32" if tf32 else "tf32")  # an earlier trial's in this process
        set_arithmetic(trial.precision)
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.backends.cudnn.deterministic


def test_tf32_is_of_gpus_and_counts_in_a_trials_identity(sweep_file):
    with pytest.raises(ValueError, match=r"gpus is 0; write precision: fp32, or gpus: 1"):
        Resources(precision="tf32")
    gpus = "resources={gpus: 1, precision: %s}"
    assert identities(sweep_file, gpus % "tf32")["ddpo"] != identities(sweep_file, gpus % "fp32")["ddpo"]
