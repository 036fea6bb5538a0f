"""What is computed of curves and evaluations, as numbers; the modules import only those above them.

- `curve.py`       one curve or one list of values: area, cost to a target, intervals
- `evidence.py`    tests over seeds, Holm, power, the crossed bootstrap
- `comparison.py`  the same over a whole frame: per trial, per method, against a baseline, paired
- `overoptimisation.py`  where gold fell while the reward rose

A statistic that a table or a figure shows is a function here, and is tested against a closed form or a simulation.
"""
