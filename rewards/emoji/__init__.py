"""The embedded rewards: learned proxies, their gold rewards, and the independent classifier that judges images.

The frozen weights of the networks (`*.safetensors`) lie in this folder.

- `rule.py`        the documented preference rule
- `aesthetic.py`   `emoji-aesthetic`, a small network that learned the rule
- `alignment.py`   `emoji-alignment`, a small contrastive dual encoder
- `count.py`       `emoji-count`, a small counting network
- `classifier.py`  the classifier of an image's animal, background colour and count
- `gold.py`        rewards on the classifier: `emoji-animal` and the golds of the three proxies
- `prompt.py`      reads animal, count and background colour from a prompt
- `labels.py`      the names of the networks' outputs (`labels.json`)
- `networks.py`    layers that the networks share
- `train.py`       `python -m rewards.emoji.train`: trains the networks (`train_*.py`)
- `measure.py`     `python -m rewards.emoji.measure`: measures the figures in the card
- `neighbours.py`  a stricter judge of animals, by nearest neighbours
- `README.md`      the card: data, recipes, quality, commands
"""
