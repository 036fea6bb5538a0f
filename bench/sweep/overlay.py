"""`--scale` and `--set`: changes to a sweep's YAML tree before it is validated."""

import difflib
from typing import Any

from bench.errors import BenchError
from bench.sweep.variants import variant_name
from bench.sweep.yaml_source import Node, parse

REPLACED_WHOLE = {"reward", "budget", "gold", "train", "heldout"}
"""Keys whose mapping a scale replaces as a whole: keys of two rewards or two prompt files must not be mixed."""


def apply_scale(root: Node, scale: str) -> Node:
    """The sweep with `scales.NAME` merged into it, and without `scales`.

    Mappings are merged, except those in `REPLACED_WHOLE`; `methods` is merged by variant; other lists are replaced.

    Raises:
        BenchError: there is no such scale, or it is no mapping, or it changes `schema` or `scales`.
    """
    scales = root.child("scales")
    known = list(scales.value) if scales is not None and isinstance(scales.value, dict) else []
    overlay = scales.child(scale) if scales is not None else None
    if overlay is None or scales is None:
        names = f"it has {', '.join(known)}" if known else "it has none; leave --scale out"
        raise BenchError(f"the sweep has no scale {scale!r}", "--scale", suggestion(scale, known) or names)
    if not isinstance(overlay.value, dict):
        raise BenchError(f"scales.{scale} must be a mapping that is merged into the sweep", overlay.where)
    for key in ("schema", "scales"):
        if key in overlay.value:
            raise BenchError(f"scales.{scale}.{key}: cannot be changed by a scale", overlay.value[key].where)
    return _merge(root, overlay, ())


def apply_override(root: Node, text: str) -> Node:
    """The sweep with one value replaced: `a.b=value`, the value in YAML 1.2.

    `methods.VARIANT.…` and `seeds.0` address entries of lists.

    Raises:
        BenchError: the text is no `path=value`, the value is not YAML, or the path names no entry of a list.
    """
    path, equals, value = text.partition("=")
    option = f"--set {text}"
    if not equals or not path.strip():
        raise BenchError(f"{text!r} is no path=value", "--set", "for example --set budget.reward_queries=500")
    parts = path.strip().split(".")
    if not all(parts):
        raise BenchError(f"{path!r} has an empty part", "--set", "for example --set budget.reward_queries=500")
    node = parse(value, option, numbered=False)
    return _assign(root, parts, _relocate(node, option), option)


def suggestion(name: str, known: list[str]) -> str | None:
    """`did you mean X?` with the known name closest to a mistyped one; None if none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else None


def method_key(node: Node) -> str | None:
    """The variant's name in an entry of `methods`; None for an entry that names no method."""
    variant, name = (child.value if (child := node.child(key)) else None for key in ("variant", "name"))
    if isinstance(variant, str):
        return variant
    return variant_name(name) if isinstance(name, str) else None


def _merge(base: Node, overlay: Node, path: tuple[str, ...]) -> Node:
    if path == ("methods",) and isinstance(base.value, list) and isinstance(overlay.value, list):
        return _merge_methods(base, overlay)
    whole = bool(path) and path[-1] in REPLACED_WHOLE
    if whole or not (isinstance(base.value, dict) and isinstance(overlay.value, dict)):
        return overlay
    merged = {key: node for key, node in base.value.items() if path or key != "scales"}
    for key, node in overlay.value.items():
        merged[key] = _merge(merged[key], node, (*path, key)) if key in merged else node
    return Node(merged, base.where)


def _merge_methods(base: Node, overlay: Node) -> Node:
    assert isinstance(base.value, list)
    assert isinstance(overlay.value, list)
    merged = list(base.value)
    names = [method_key(node) for node in merged]
    for node in overlay.value:
        name = method_key(node)
        if name is not None and name in names:
            position = names.index(name)
            merged[position] = _merge(merged[position], node, ("methods", name))
        else:
            merged.append(node)
    return Node(merged, base.where)


def _assign(node: Node, parts: list[str], value: Node, option: str, parent: str = "") -> Node:
    if not parts:
        return value
    if isinstance(node.value, list):
        position, rest = _position(node, parts, option, parent)
        items = list(node.value)
        items[position] = _assign(items[position], rest, value, option, f"{parent}.{parts[0]}")
        return Node(items, node.where)
    children: dict[str, Node] = dict(node.value) if isinstance(node.value, dict) else {}
    key, rest = parts[0], parts[1:]
    child = children.get(key, Node({}, option))
    children[key] = _assign(child, rest, value, option, f"{parent}.{key}".lstrip("."))
    return Node(children, node.where if isinstance(node.value, dict) else option)


def _position(node: Node, parts: list[str], option: str, parent: str) -> tuple[int, list[str]]:
    """The index of the list's entry that the first parts of a path name, and the parts after them."""
    items: list[Any] = node.value if isinstance(node.value, list) else []
    if parent == "methods":
        names = [method_key(item) for item in items]
        # A variant's name may have dots in it: the longest prefix that is a variant wins.
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if name in names:
                return names.index(name), parts[length:]
        known = [name for name in names if name]
        hint = suggestion(parts[0], known) or f"there are {', '.join(known)}"
        raise BenchError(f"no method has the variant {parts[0]!r}", option, hint)
    if parts[0].isdigit() and int(parts[0]) < len(items):
        return int(parts[0]), parts[1:]
    raise BenchError(f"{parent} is a list of {len(items)}; {parts[0]!r} is no index of it", option)


def _relocate(node: Node, where: str) -> Node:
    """The tree with `where` as the place of every value."""
    if isinstance(node.value, dict):
        return Node({key: _relocate(child, where) for key, child in node.value.items()}, where)
    if isinstance(node.value, list):
        return Node([_relocate(child, where) for child in node.value], where)
    return Node(node.value, where)
