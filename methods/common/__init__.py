"""Parts that several methods share: rollouts, advantages, the denoising loss, the drift penalty.

A part is a plain function or dataclass on the contract of `methods/base.py`. Code that only one method uses stays in
that method's file.
"""
