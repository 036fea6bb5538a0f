"""A trial's curve, shown elsewhere while it grows: TensorBoard event files, and W&B, MLflow and Trackio.

Trackers follow `curve.jsonl`, which the trial writes anyway, so the loop knows nothing of them and its numbers cannot
depend on them; where a trial has many workers, trackers run beside them and in no process group. Event files are
written by a thread of the process that runs the trial. A service has a process of its own (`follow.py`): what it
imports, asks, prints or waits for is no part of the trial, and it can be left behind when it hangs.

Another service is a class in `services.py` on one of accelerate's trackers, and its options in `bench/sweep/schema.py`.
"""
