"""What a report needs to know of a method and no curve tells: how it is drawn, and what it stands beside.

It decides no number, so it stands apart from the method: a method's own source is part of every trial's identity, and
a new colour must train nothing again. A built-in method has its presentation on its line in `registry.py`; another
one may set a class attribute `presentation`, which its subclasses do not inherit; without it, reports take a colour by
the hash of its name.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Family = Literal[
    "untrained", "selection", "gradient", "policy gradient", "reward-weighted", "preferences", "forward process"
]
Line = Literal["solid", "dashed", "dashdot", "dotted"]


@dataclass(frozen=True)
class Presentation:
    """A method's presentation in reports.

    Attributes:
        family: what kind of method it is; gains are measured from the method that is "untrained". Families share a
            region of hues: gradient blue and green, policy gradient orange and red, reward-weighted purple.
        colour: of its lines on light paper, as `#rrggbb`; None for a colour by the name's hash.
        dark: the same on dark paper.
        line: how its median is dashed.
        peer_of: the name of the method that this one implements too; a table sets the two side by side.
        reference: whether the costs of other methods are divided by this one's where a report names no baseline.

    Raises:
        ValueError: a colour is not `#rrggbb`, one of the two is missing, or a name is unknown.
    """

    family: Family | None = None
    colour: str | None = None
    dark: str | None = None
    line: Line = "solid"
    peer_of: str | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        colours = [each for each in (self.colour, self.dark) if each is not None]
        if len(colours) == 1 or not all(re.fullmatch("#[0-9a-f]{6}", each) for each in colours):
            raise ValueError(f"colour {self.colour!r} and dark {self.dark!r}: write both as #rrggbb, or neither")
        if self.family not in (None, *get_args(Family)):
            raise ValueError(f"family {self.family!r} is unknown; known: {', '.join(get_args(Family))}")
        if self.line not in get_args(Line):
            raise ValueError(f"line {self.line!r} is unknown; known: {', '.join(get_args(Line))}")
