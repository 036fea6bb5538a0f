"""Comparison of results: a run against a baseline (the gate), two runs side by side, steps over many results.

Each module imports only modules above it:

- `measures.py`       the statistics that a gate compares, one value a seed
- `baseline.py`       the baseline that a run is held against
- `exact.py`          the comparison of curves point by point
- `verdict.py`        the verdicts as plain data
- `drafts.py`         one method of a run measured beside its baseline, before p-values are adjusted
- `gate.py`           `check`: the verdict, with Holm's procedure over all methods
- `gate_text.py`      the verdict as tables, Markdown, JUnit XML, JSON
- `baseline_text.py`  a baseline's contents and its power in words
- `contrast.py`       two runs side by side
- `change_points.py`, `history.py`  steps over many results
"""
