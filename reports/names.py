"""What splits and metrics are called. It imports nothing, so that a curve can be checked without pandas."""

SPLITS = ("train", "heldout")
METRICS = ("reward", "gold", "diversity", "drift")  # and reward/NAME, for rewards that were not optimised
OTHER_REWARD = "reward/"


def is_metric(name: str) -> bool:
    """Whether a curve may have values of this name."""
    return name in METRICS or (name.startswith(OTHER_REWARD) and len(name) > len(OTHER_REWARD))
