"""Running trials: the training loop, evaluation, executors, worker processes, search and trackers.

`trial.py` is the loop and `worker.py` records how a trial ended; every executor calls both. A new executor is a module
in `executors/`, a new search algorithm one in `search/`.
"""
