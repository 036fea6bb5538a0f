"""Tuning before the comparison: the same number of configurations for every method, its cost in the ledger.

`candidates.py` says what is tried, `space.py` where the values come from, `choosing.py` which configuration wins and
what finding it cost, `tuning.py` runs it all in the run's `tuning/` folder, which is a run like any other. The
algorithms are Ray Tune's: its distributions, its Optuna search, and ASHA in `halving.py`, an executor built on
`bench/run/executors`, which knows nothing of this folder.
"""
