"""Checks where a LoRA adapter goes: `lora.targets`, suffixes of the denoiser's module names as PEFT takes them.

PEFT 0.21 ignores an entry of the list that matches no module, without a warning; the check here reports it.
"""

import difflib
import re
from collections.abc import Sequence

from torch import nn

DEFAULT_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The target modules of AlignProp's and DDPO's code: every attention projection."""

ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Layer classes of denoisers for which PEFT has a LoRA layer."""


def wrong_targets(denoiser: nn.Module, targets: Sequence[str]) -> list[str]:
    """One message for each entry of `lora.targets` that matches no module, or a module without a LoRA layer."""
    modules = {name: module for name, module in denoiser.named_modules() if name}
    problems = (_problem(target, modules) for target in dict.fromkeys(targets))
    return [problem for problem in problems if problem]


def _problem(target: str, modules: dict[str, nn.Module]) -> str | None:
    matched = {name: module for name, module in modules.items() if name == target or name.endswith(f".{target}")}
    unfit = next((name for name, module in matched.items() if not isinstance(module, ADAPTABLE)), None)
    if unfit is not None:
        inside = _suffixes({name: module for name, module in modules.items() if name.startswith(f"{unfit}.")})
        hint = f"; in it are {', '.join(inside)}" if inside else ""
        return f"{target!r} matches {unfit} ({type(modules[unfit]).__name__}), for which there is no LoRA layer{hint}"
    if not matched:
        return f"{target!r} matches no module of the denoiser; {_hint(target, _suffixes(modules))}"
    return None


def _suffixes(modules: dict[str, nn.Module]) -> list[str]:
    """The shortest suffix that names each adaptable layer, such as `to_q` or `to_out.0`."""
    layers = [name for name, module in modules.items() if isinstance(module, ADAPTABLE)]
    # The last component alone would be a bare number for `to_out.0` and `ff.net.2`.
    return list(dict.fromkeys(re.search(r"[A-Za-z_]\w*(\.\d+)*$", name)[0] for name in layers))  # type: ignore[index]


def _hint(target: str, suffixes: list[str]) -> str:
    if re.search(r"[*+?\[\](){}|^$\\]", target):
        return "entries are suffixes of module names, as to_q or attn2.to_k, not patterns"
    close = difflib.get_close_matches(target, suffixes, n=1)
    if close:
        return f"did you mean {close[0]!r}? entries are suffixes of module names"
    return f"entries are suffixes of module names: {', '.join(suffixes)}"
