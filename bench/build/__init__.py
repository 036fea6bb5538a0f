"""From names to objects: plugins, weights, and a trial's policy, rewards and optimiser as a plan and a run need them.

`plugins.py` finds what a name or a reference (`module:attr`, `file.py:attr`) stands for; `objects.py` makes a trial's
parts from its specification (`trial_spec.py`). What a trial needs to be built from goes into its specification first.
"""
