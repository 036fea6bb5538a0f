"""Reward functions: images and prompts in, one number an image out.

- `base.py`      the contract an author reads: `Reward`, and `CallableReward` for any function
- `registry.py`  the built-in rewards by name
- `combine.py`   rewards made of rewards: sum, ensemble, clip
- `remote.py`    a reward on a server of your own
- `pixels.py`    images as bytes and as Pillow's; `hashing.py` files of weights by their SHA-256
- `colour.py`    colourfulness and the other image statistics, differentiable
- `published/`   published rewards on published weights, such as the LAION aesthetic predictor
- `emoji/`       the embedded aesthetic reward, its gold, the independent classifier, and the recipes that train them

To add a reward: subclass `Reward` in a file here and name it in `registry.py`; from outside, use the entry-point group
`alignprop_bench.rewards`, or `module:Class` or `file.py:Class` in the sweep. This floor imports nothing of ours.
"""
