"""Alignment methods, one small file each, on the contract in `base.py`.

To write a method, read `base.py`, which is all that an author needs. Then read `alignprop.py` (a method on the gradient
of the reward) or `rwr.py` (a method on its value), write a file like it, and name its class in a sweep as
`file.py:Class`. A built-in method has a line in `registry.py`, with its family and colours (`presentation.py`).
`methods/` imports `models` and `rewards` only.
"""
