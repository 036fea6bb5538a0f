"""Reward functions: images and prompts in, one number an image out.

- `base.py`      the contract an author reads: `Reward`, and `CallableReward` for any function
- `registry.py`  the built-in rewards by name
- `colour.py`    colourfulness and the other image statistics, differentiable
- `emoji/`       the embedded aesthetic reward, its gold, the independent classifier, and the recipes that train them

To add a reward: subclass `Reward` in a file here and name it in `registry.py`; from outside, use the entry-point group
`alignprop_bench.rewards`, or `module:Class` or `file.py:Class` in the sweep. This floor imports nothing of ours.
"""
