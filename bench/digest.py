"""The hash of a JSON-like value, by which trials and protocols are told apart."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
