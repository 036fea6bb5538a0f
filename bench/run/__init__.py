"""A trial from its start to its end: the loop, evaluation, executors, worker processes, search, trackers.

`trial.py` is the loop and `worker.py` what records how it ended; both are the same for every executor. A new executor
is a module in `executors/`, a new search algorithm one in `search/`.
"""
