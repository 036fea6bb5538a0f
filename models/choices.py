"""The values that a sweep may name and a policy knows. It imports nothing of torch, so that no command waits for it."""

from typing import Literal

DEFAULT_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The target modules of AlignProp's and DDPO's code: every attention projection."""

Spacing = Literal["leading", "trailing", "linspace"]
"""How the T timesteps of a run are spread (Lin et al. 2023, arXiv 2305.08891, table 2)."""
