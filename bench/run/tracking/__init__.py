"""Trackers, which show a trial's curve while it grows: TensorBoard event files, W&B, MLflow and Trackio.

Trackers read `curve.jsonl`, which the trial writes in any case, so its numbers cannot depend on them (`follow.py`).
A new tracker is a class in `services.py`, with its options in `bench/sweep/schema.py`.
"""
