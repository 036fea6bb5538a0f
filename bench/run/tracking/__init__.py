"""A trial's curve, shown elsewhere while it grows: TensorBoard event files, and W&B, MLflow and Trackio.

Trackers read `curve.jsonl`, which the trial writes anyway, so the loop knows nothing of them and its numbers cannot
depend on them (`follow.py`). Another one is a class in `services.py`, and its options in `bench/sweep/schema.py`.
"""
