"""Many workers in one trial: who they are (`group.py`), and DeepSpeed ZeRO as their optimiser (`zero.py`).

Methods, sampler and evaluation know nothing of it: rows are shared inside the policy (`models/workers.py`), and
gradients are summed inside the optimiser. Every worker runs `bench.trial.run_trial`; the first one writes.
"""
