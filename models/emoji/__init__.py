"""The embedded checkpoint `emoji-v1`: a small latent diffusion model of emoji animals, and the recipe that trains it.

- `v1/`            the frozen checkpoint in `StableDiffusionPipeline` layout, with its model card
- `vocabulary.py`  the animals, the background colours and the captions
- `scenes.py`      renders captioned scenes from the Noto Color Emoji font
- `train.py`       `python -m models.emoji.train`: trains the autoencoder, then text encoder and U-Net; resumable
- `sample.py`      `python -m models.emoji.sample`: writes captioned samples to a file, for measuring

The weights in `v1/` never change, because results name them by hash. A better checkpoint goes into a new folder, `v2/`.
"""
