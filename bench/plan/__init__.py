"""From a sweep to a list of trials: settings validated by their methods, identities, preflight, what it will cost.

`planner.py` makes the trials; what can be known to be wrong is refused here, before anything is spent. A field of a
trial that decides its numbers belongs to its identity (`identity.py`) too.
"""
