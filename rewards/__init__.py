"""Reward functions: images and prompts in, one score for each image out.

- `base.py`         the contract that an author reads: `Reward`, and `CallableReward` for any function
- `registry.py`     the built-in rewards by name
- `combine.py`      rewards made of other rewards: sum, ensemble, clip
- `remote.py`       a reward that a server of your own computes
- `containment.py`  runs a reward's code and restores the global state afterwards
- `pixels.py`       converts images to bytes and to Pillow's; `hashing.py` hashes files of weights
- `colour.py`       colourfulness, differentiable
- `jpeg.py`         JPEG size, exact, and estimated with a gradient
- `published/`      published rewards on published weights, such as the LAION aesthetic predictor
- `emoji/`          the embedded rewards, their golds, the independent classifier, and the recipes that train them

To add a built-in reward, subclass `Reward` in a file here and name it in `registry.py`. A reward outside of this
package is named in a sweep as `module:Class` or `file.py:Class`, or by an entry point of the group
`alignprop_bench.rewards`. `rewards/` imports no other folder of this repository.
"""
