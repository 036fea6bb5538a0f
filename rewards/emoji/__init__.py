"""The embedded rewards: an aesthetic predictor, its gold, and the independent classifier that judges animals.

- `rule.py`        the documented preference rule
- `aesthetic.py`   `emoji-aesthetic`, a small network that learned the rule (frozen weights beside it)
- `classifier.py`  animal, background colour and count of an image (frozen weights beside it)
- `gold.py`        `emoji-aesthetic-gold` (the rule times P(animal)) and `emoji-animal` (P(animal))
- `labels.json`    the names the classifier's outputs stand for
- `train.py`       `python -m rewards.emoji.train`: the recipes of both networks
- `measure.py`     `python -m rewards.emoji.measure`: animals, backgrounds and counts recognised in a samples file
- `neighbours.py`  a stricter judge of animals that is no network
- `README.md`      the card: data, recipes, quality, commands
"""
