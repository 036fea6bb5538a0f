"""The cause that a worker records where memory ran out."""

import pytest

from bench.errors import cause_of, ran_out_of_memory
from bench.run.worker import run_and_record, with_advice
from bench.store.trial_folder import TrialFolder
from tests.bench.run.test_trial import make_trial

ENDS = """
import torch
from methods.ddpo import DDPO

class Ends(DDPO):
    name = "ends"
    def step(self, prompts):
        raise {error}
"""


@pytest.mark.parametrize(
    "error",
    [
        'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")',
        "MemoryError()",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 99 bytes.")',
    ],
)
def test_running_out_of_memory_says_what_to_change(error, tiny_model, tmp_path):
    plugin = tmp_path / "ends.py"
    plugin.write_text(ENDS.format(error=error))
    folder = TrialFolder(tmp_path / "trial")
    trial = make_trial(tiny_model, "ddpo", variant="mine", reference=f"{plugin}:Ends")
    assert run_and_record(trial, folder) == "failed"
    cause = folder.read().cause
    assert "out of memory; settings.micro_batch=16 or resources.precision=bf16 needs less" in cause
    assert error.split("(")[0].removeprefix("torch.") in cause


def test_where_nothing_is_left_to_change_a_larger_card_is_needed(tiny_model):
    trial = make_trial(tiny_model, "alignprop", precision="bf16")
    spent = trial.model_copy(update={"settings": {**trial.settings, "micro_batch": 1, "checkpointing": "step"}})
    assert "a GPU with more memory is needed" in with_advice("MemoryError", spent)
    assert with_advice("ValueError: no", trial) == "ValueError: no"
    assert not ran_out_of_memory(cause_of(ValueError("a memory of it")))
