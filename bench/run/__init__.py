"""Running trials: the training loop, evaluation, executors, worker processes, search and trackers.

`sweep.py` runs a sweep: its tuning, then its comparison. `trial.py` is a trial's loop and `worker.py` records how the
trial ended; every executor calls both. A new executor is a module in `executors/`, a new search algorithm one in
`search/`.
"""
