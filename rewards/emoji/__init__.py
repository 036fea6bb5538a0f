"""The embedded rewards: learned proxies, their golds, and the independent classifier that judges animals.

- `rule.py`        the documented preference rule
- `aesthetic.py`   `emoji-aesthetic`, a small network that learned the rule (frozen weights beside it)
- `alignment.py`   `emoji-alignment`, a small contrastive dual encoder (likewise)
- `count.py`       `emoji-count`, a small counting network (likewise)
- `classifier.py`  animal, background colour and count of an image (likewise)
- `gold.py`        what the classifier says: `emoji-animal` and the golds of the three proxies
- `prompt.py`      what a prompt asks for
- `labels.py`      the names the networks' outputs stand for (`labels.json`)
- `networks.py`    what the networks are built of
- `train.py`       `python -m rewards.emoji.train`: the recipes of all of them (`train_*.py`)
- `measure.py`     `python -m rewards.emoji.measure`: the figures of the card
- `neighbours.py`  a stricter judge of animals that is no network
- `README.md`      the card: data, recipes, quality, commands
"""
