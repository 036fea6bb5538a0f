"""What the checks of `bench test` must know of a method besides its contract."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from methods.base import Method


@dataclass(frozen=True)
class Expectations:
    """A method's needs in a test. A method of one's own may have them as its class attribute `expectations`.

    Attributes:
        small: overrides of settings with which four prompts make a whole step.
        continuous: False if the loss jumps (a clip, a choice of the best). Rounding may then separate two runs, so the
            checks measure the difference between micro-batches without requiring equal curves.
    """

    small: Mapping[str, Any] = field(default_factory=dict)
    continuous: bool = True


_UPDATE = {"batch_size": 4, "checkpointing": "none"}
_ROLLOUT = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 2}
_REGRESSION = {"prompts_per_rollout": 4, "images_per_prompt": 2, "rows_per_image": 1.5, "batch_size": 6}
_CHAIN = Expectations({**_ROLLOUT, "timestep_fraction": 1.0}, continuous=False)  # these clip

BUILT_IN = {
    "alignprop": Expectations({**_UPDATE, "truncation": "full"}),
    "draft": Expectations(_UPDATE),
    "draft-lv": Expectations(_UPDATE),
    # With a single possible stop, the cost of a step does not depend on the draw.
    "refl": Expectations({**_UPDATE, "stop_from": 0.9}),
    "ddpo": _CHAIN,
    "dpok": _CHAIN,
    "d3po": _CHAIN,
    "rwr": Expectations(_REGRESSION),
    "rwr-sparse": Expectations(_REGRESSION, continuous=False),
    "raft": Expectations(_REGRESSION, continuous=False),
    "dpo": Expectations({**_ROLLOUT, "batch_size": 6}, continuous=False),
    "nft": Expectations(_ROLLOUT),
    "trl-alignprop": Expectations({"batch_size": 4, "truncation": "full"}),
    "trl-ddpo": Expectations(_ROLLOUT, continuous=False),
}


def expectations_of(cls: type[Method]) -> Expectations:
    """The expectations of a method: its class attribute, those of a built-in, or the defaults."""
    own = getattr(cls, "expectations", None)
    return own if isinstance(own, Expectations) else BUILT_IN.get(cls.name, Expectations())
