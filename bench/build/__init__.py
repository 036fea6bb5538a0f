"""From names to objects: plug-ins, weights, and the policy, rewards and optimiser of a trial.

`plugins.py` loads the method, reward or model that a name or a reference (`module:attr`, `file.py:attr`) stands for;
`objects.py` builds a trial's objects from its specification (`trial_spec.py`). A new kind of object needs its settings
in the specification.
"""
