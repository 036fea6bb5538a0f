"""From a sweep to the list of its trials: validated settings, identities, preflight checks, and estimated costs.

`planner.py` makes the trials and refuses bad input before anything is spent. A new field of a trial that decides its
numbers must also be added to the trial's identity (`identity.py`).
"""
