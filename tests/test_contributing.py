"""CONTRIBUTING's example is followed literally: the file is written, named in a sweep, and run."""

import re
from pathlib import Path

from bench.load import load_sweep
from bench.plan import plan
from bench.trial import run_trial
from bench.trial_folder import TrialFolder

ROOT = Path(__file__).parents[1]

SWEEP = """
schema: 1
name: mine
model: {model}
reward: colourfulness
prompts: {{train: [a cat, a dog]}}
sampler: {{steps: 2, guidance: 1.0, eta: 1.0}}
methods: [{{name: "my_method.py:LastStep", settings: {{batch_size: 2}}}}]
seeds: [0]
budget: {{reward_queries: 4}}
"""


def test_the_example_method_runs(tiny_model, tmp_path):
    (code,) = re.findall(r"```python\n(# my_method\.py\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "my_method.py").write_text(code)
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(model=tiny_model))
    (trial,) = plan(load_sweep(tmp_path / "sweep.yaml"))
    folder = TrialFolder(tmp_path / "trial")
    run_trial(trial, folder)
    last = folder.read_curve()[-1]["axes"]
    # 4 images of 2 steps, the last differentiated: 8 rows forward, 4 back.
    assert (last["reward_queries"], last["nfe_forward"], last["nfe_backward"]) == (4, 8, 4)


def test_the_tree_names_every_module_of_bench_and_models():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for folder in ("bench", "models"):
        for path in (ROOT / folder).glob("*.py"):
            if path.name not in ("__init__.py", "cli.py"):
                assert path.stem in text or path.name in text, f"CONTRIBUTING's tree does not name {folder}/{path.name}"
