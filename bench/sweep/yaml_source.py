"""A sweep's YAML as a tree in which every value has its place in the file.

YAML 1.2 (`1e-3` is a number, `no` is a string), one document, plain values only. Anchors and aliases are refused:
nested ones grow exponentially (the "billion laughs"), and a sweep expresses repetition by `scales` and `grid`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from bench.errors import BenchError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
PLAIN = {"str", "int", "float", "bool", "null"}

Scalar = str | int | float | bool | None
Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Node:
    """A value and its place in the sweep.

    Attributes:
        value: a dict or list of nodes, or a plain value.
        where: `file.yaml:12`, or the option that set it.
    """

    value: "dict[str, Node] | list[Node] | Scalar"
    where: str

    def plain(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, key: str | int) -> "Node | None":
        """The node under a key of a mapping or an index of a list; None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def locate(self, path: Path_) -> str:
        """The place of the value at `path`, or of its nearest ancestor in the tree."""
        node = self
        for key in path:
            child = node.child(key)
            if child is None:
                break
            node = child
        return node.where


def read_yaml(path: Path) -> Node:
    """Reads the YAML file at `path`, whose top level must be a mapping.

    Raises:
        BenchError: the file cannot be read, is too large, or is not YAML text with a mapping of plain values.
    """
    try:
        if path.is_dir():
            raise BenchError("is a folder, not a sweep file", str(path), "name a YAML file inside it")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BenchError(f"is {size:,} bytes; a sweep file has at most {MAX_BYTES:,}", str(path))
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BenchError("there is no such file", str(path)) from None
    except UnicodeDecodeError:
        raise BenchError("is not text in UTF-8, so it is no sweep file", str(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BenchError(f"cannot be read ({reason})", str(path)) from None
    node = parse(text, path.name)
    if node.value is None:
        raise BenchError("is empty", path.name, "`bench list sweeps` names sweeps to start from")
    if not isinstance(node.value, dict):
        raise BenchError("is no sweep: expected `key: value` lines such as `name: my-sweep`", node.where)
    return node


def parse(text: str, source: str, numbered: bool = True) -> Node:
    """One YAML document as a tree.

    Args:
        text: the document.
        source: the document's name in messages.
        numbered: whether messages give line numbers; an option on the command line has none.

    Raises:
        BenchError: the text is not YAML, or has anchors, tags, repeated keys or too many levels.
    """

    def where(line: int) -> str:
        return f"{source}:{line + 1}" if numbered else source

    try:
        _refuse_anchors(text, where)
        # Anchors and depth are checked in a pass of their own, before a tree is built from them.
        yaml = YAML(typ="safe", pure=True)
        root = yaml.compose(text)
        return Node(None, where(0)) if root is None else _convert(root, yaml.constructor, where)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = where(mark.line) if mark else source
        raise BenchError(_explain(error), place) from None
    except YAMLError as error:
        raise BenchError(f"is not YAML: {str(error).splitlines()[0]}", source) from None


def _refuse_anchors(text: str, where: Any) -> None:
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise BenchError(
                "anchors and aliases (&, *) are not allowed", where(event.start_mark.line), "write the value out"
            )
        depth += kind.endswith(("MappingStartEvent", "SequenceStartEvent"))
        depth -= kind.endswith(("MappingEndEvent", "SequenceEndEvent"))
        if depth > MAX_DEPTH:
            raise BenchError(f"nested deeper than {MAX_DEPTH} levels", where(event.start_mark.line))


def _convert(node: Any, constructor: Any, where: Any) -> Node:
    place = where(node.start_mark.line)
    if isinstance(node, MappingNode):
        return Node(_mapping(node, constructor, where), place)
    if isinstance(node, SequenceNode):
        _refuse_tag(node, "seq", place)
        return Node([_convert(item, constructor, where) for item in node.value], place)
    assert isinstance(node, ScalarNode)
    kind = str(node.tag).rpartition(":")[2]
    if kind == "timestamp":  # a sweep has no dates: the text is kept as written
        return Node(str(node.value), place)
    _refuse_tag(node, kind if kind in PLAIN else "plain value", place)
    try:
        return Node(getattr(constructor, f"construct_yaml_{kind}")(node), place)
    except (ValueError, KeyError):
        raise BenchError(f"{node.value!r} is no {kind}", place) from None


def _mapping(node: Any, constructor: Any, where: Any) -> dict[str, Node]:
    _refuse_tag(node, "map", where(node.start_mark.line))
    result: dict[str, Node] = {}
    for key_node, value_node in node.value:
        place = where(key_node.start_mark.line)
        if not isinstance(key_node, ScalarNode):
            raise BenchError("a key must be a plain word", place)
        key = str(key_node.value)
        if key in result:
            raise BenchError(f"the key {key!r} appears twice", place, f"it is first at {result[key].where}")
        value = _convert(value_node, constructor, where)
        # A key and its value may be lines apart; the key is what a reader looks for.
        result[key] = Node(value.value, place)
    return result


def _refuse_tag(node: Any, plain: str, place: str) -> None:
    """Raises `BenchError` for an explicit tag, which may create any object: `!!python/object/apply:os.system [rm]`."""
    if str(node.tag) != f"tag:yaml.org,2002:{plain}":
        tag = str(node.tag).rpartition("2002:")[2].lstrip("!")
        raise BenchError(f"the tag !{tag} is not allowed", place, "only plain values are")


def _explain(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "syntax error")
    if "\\t" in problem:
        return "is not YAML: a tab is used for indentation; YAML wants spaces"
    if "document" in problem:
        return "holds several YAML documents (---); a sweep file is one"
    if "mapping values are not allowed" in problem:
        return "is not YAML: a second ': ' on the line; quote the value if it belongs to it"
    return f"is not YAML: {problem}"
