"""Names of a method's variants, as used in tables, folders, `--set methods.VARIANT` and baselines."""

import re
from collections.abc import Mapping
from typing import Any


def variant_name(method: str, variant: str | None = None) -> str:
    """The `variant` of a method's entry in a sweep, or else the method's own name: `class` for `file.py:Class`."""
    return variant or _slug(method.rpartition(":")[2])


def grid_name(variant: str, chosen: Mapping[str, Any]) -> str:
    """The name of a variant with one combination of its grid's values: `ddpo-learning_rate-0.0003`."""
    return "-".join([variant, *(f"{_slug(setting)}-{_slug(value)}" for setting, value in chosen.items())])


def _slug(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-")
