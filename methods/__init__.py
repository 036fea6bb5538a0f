"""Alignment methods, one small file each, on one small contract.

Read `base.py`: it is all that an author needs. Then look at `alignprop.py` (gradient of the reward) or `rwr.py`
(value of the reward), write a file like it, and name its class in a sweep as `file.py:Class`; a method that belongs
here gets a line in `registry.py`, with its family and colours (`presentation.py`). This floor imports `models` and
`rewards`.
"""
