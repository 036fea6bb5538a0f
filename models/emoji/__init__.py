"""The embedded checkpoint `emoji-v1`: a small latent diffusion model of emoji animals, and the recipe that trains it.

- `v1/`            the frozen checkpoint in `StableDiffusionPipeline` layout, with its model card
- `vocabulary.py`  the animals, the background colours and the captions
- `scenes.py`      renders captioned scenes from the Noto Color Emoji font
- `train.py`       `python -m models.emoji.train`: autoencoder, then text encoder and U-Net; resumable
- `sample.py`      `python -m models.emoji.sample`: captioned samples to a file, for measuring

Frozen means frozen: results depend on these weights by hash. A better one is a new folder, `v2/`.
"""
