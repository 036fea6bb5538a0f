"""How one result stands to others: a run beside a baseline (the gate), two runs side by side, steps over many results.

The modules, each importing only those above it:

- `measures.py`       one value a seed of each statistic that a gate compares
- `baseline.py`       what a run is held against
- `exact.py`          curves point by point
- `verdict.py`        the verdict's words and shape
- `drafts.py`         one method of a run beside its baseline, measured
- `gate.py`           the verdict: `check`, with Holm's procedure over all methods
- `gate_text.py`      the verdict as tables, Markdown, JUnit XML, JSON
- `baseline_text.py`  what a baseline holds and is able to see
- `contrast.py`       two runs side by side
- `change_points.py`, `history.py`  steps over many results
"""
