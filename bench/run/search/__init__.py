"""Tuning of a sweep's methods before the comparison, with the same number of configurations for every method.

`candidates.py` makes configurations and their trials, `space.py` draws their values, `choosing.py` picks the best
configurations and sums up the cost, `axes.py` finds inert settings and edges, and `tuning.py` runs the search in the
run's `tuning/` folder, itself a run. The algorithms are Ray Tune's: its distributions, its Optuna search, and ASHA in
`halving.py`, an executor built on `bench/run/executors`.
"""
