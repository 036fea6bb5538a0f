"""Where a LoRA adapter goes: suffixes of the denoiser's module names, as PEFT takes them.

PEFT 0.21 adapts what some entry of a list matches and says nothing of an entry that matches nothing.
"""

import difflib
import re
from collections.abc import Sequence

from torch import nn

DEFAULT_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""AlignProp's and DDPO's: every attention projection."""

ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Kinds of layers that PEFT has a LoRA layer for, as far as denoisers have them."""


def wrong_targets(denoiser: nn.Module, targets: Sequence[str]) -> list[str]:
    """What is wrong with each entry of `lora.targets` that matches no layer, or something that cannot be adapted."""
    modules = {name: module for name, module in denoiser.named_modules() if name}
    found = (_wrong(target, modules) for target in dict.fromkeys(targets))
    return [what for what in found if what]


def _wrong(target: str, modules: dict[str, nn.Module]) -> str | None:
    matched = {name: module for name, module in modules.items() if name == target or name.endswith(f".{target}")}
    other = next((name for name, module in matched.items() if not isinstance(module, ADAPTABLE)), None)
    if other is not None:
        inside = _suffixes({name: module for name, module in modules.items() if name.startswith(f"{other}.")})
        hint = f"; in it are {', '.join(inside)}" if inside else ""
        return f"{target!r} matches {other} ({type(modules[other]).__name__}), for which there is no LoRA layer{hint}"
    if not matched:
        return f"{target!r} matches no module of the denoiser; {_hint(target, _suffixes(modules))}"
    return None


def _suffixes(modules: dict[str, nn.Module]) -> list[str]:
    """The shortest names that layers can be called by."""
    layers = [name for name, module in modules.items() if isinstance(module, ADAPTABLE)]
    # `to_out.0` and `ff.net.2` would be numbers alone.
    return list(dict.fromkeys(re.search(r"[A-Za-z_]\w*(\.\d+)*$", name)[0] for name in layers))  # type: ignore[index]


def _hint(target: str, known: list[str]) -> str:
    if re.search(r"[*+?\[\](){}|^$\\]", target):
        return "entries are suffixes of module names, as to_q or attn2.to_k, not patterns"
    close = difflib.get_close_matches(target, known, n=1)
    if close:
        return f"did you mean {close[0]!r}? entries are suffixes of module names"
    return f"entries are suffixes of module names: {', '.join(known)}"
