"""Model families: how a checkpoint becomes conditioning, one prediction and a decoded image, one file for each.

To add one, write a class on `base.py`, as `stable_diffusion.py` does; docs/models.md shows one in a page.
"""
