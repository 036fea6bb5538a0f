"""Statistics of curves and evaluations, as plain numbers. Each module imports only modules above it:

- `curve.py`       one curve or one list of values: area, cost to a target, intervals
- `evidence.py`    tests over seeds, Holm, power, the crossed bootstrap
- `comparison.py`  the same over a whole frame: per trial, per variant, against a baseline, paired
- `places.py`      the places of a ranking that the seeds leave open
- `gains.py`       what training gained over the untrained model, and which gains are clear
- `overoptimisation.py`  where gold fell while the reward rose

A statistic that a table or a figure shows is a function here, and is tested against a closed form or a simulation.
"""
