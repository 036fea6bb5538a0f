"""A sweep's problems as lines to act on: `sweep.yaml:12: methods[1].settings.learning_rat: unknown key; …`.

pydantic finds most of them; each line has its place in the file, its key and a hint.
"""

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bench.errors import BenchError, InvalidSweepError, one_line
from bench.sweep.overlay import suggestion
from bench.sweep.yaml_source import Node, Path_

MESSAGES = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "dict_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)",
    "model_attributes_type": "expected a mapping (key: value)",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
}

T = TypeVar("T")


class Problems:
    """Collects the problems of a sweep, so that one error reports all of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def collect(self, make: Callable[[], T]) -> T | None:
        """What `make()` returns; None if it raises `InvalidSweepError`, whose problems are added to `lines`."""
        try:
            return make()
        except InvalidSweepError as error:
            self.lines += error.problems
            return None

    def raise_if_any(self) -> None:
        """Raises `InvalidSweepError` with all problems; returns if there are none."""
        if self.lines:
            raise InvalidSweepError(self.lines)


def describe(error: ValidationError, root: Node, model: type[BaseModel], prefix: Path_ = ()) -> list[str]:
    """A line for each problem that pydantic found.

    Args:
        error: pydantic's error.
        root: the sweep's YAML tree, for the places of values.
        model: the model that refused the value, for its known keys.
        prefix: the path of the validated value in the tree.
    """
    lines: list[str] = []
    for item in error.errors(include_url=False):
        inner = tuple(part for part in item["loc"] if part != "[key]" and not _is_tag(part))
        text, path = _explain(item, inner, model)
        full = _existing(root, (*prefix, *path), keep=item["type"] in ("missing", "extra_forbidden"))
        line = problem(root, full, text)
        if line not in lines:
            lines.append(line)
    return lines


def _is_tag(part: int | str) -> bool:
    """Whether a part of pydantic's path is the tag of a union's member (see `schema.PromptSource`), not a key."""
    return isinstance(part, str) and part.startswith("(") and part.endswith(")")


def problem(root: Node, path: Path_, text: str) -> str:
    """The line of one problem: its place, its key and `text`."""
    where = one_line(root.locate(path), 80)  # an option on the command line may be a list of prompts
    key = dotted(path)
    return one_line(f"{where}: {key}: {text}" if key else f"{where}: {text}")


def dotted(path: Path_) -> str:
    """A path as text: `methods[1].settings.x`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _explain(item: Any, path: Path_, model: type[BaseModel]) -> tuple[str, Path_]:
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        known = _keys(_model_at(model, path[:-1]))
        hint = suggestion(str(path[-1]), known) or (f"known: {', '.join(known)}" if known else "it takes none")
        return f"unknown key; {hint}", path
    if kind == "missing":
        return f"is missing; {_field_description(model, path)}", path
    if kind == "literal_error":
        return _literal(item, given), path
    if kind == "value_error":
        message = str(item["ctx"]["error"])
        head, colon, rest = message.partition(": ")
        # A check over the whole sweep begins its message with the key: `search.space: …`.
        if not path and colon and " " not in head:
            return rest, tuple(head.split("."))
        return message, path
    if kind == "too_short":
        return "must not be empty", path
    if kind in MESSAGES:
        return f"{MESSAGES[kind]}, got {_shown(given)}", path
    message = item["msg"].replace("Input should be ", "must be ").replace("Value should be ", "must be ")
    return f"{message}, got {_shown(given)}", path


def _literal(item: Any, given: Any) -> str:
    expected = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
    hint = suggestion(str(given), expected.split(", "))
    return f"{_shown(given)} is none of {expected}" + (f"; {hint}" if hint else "")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "nothing" if value is None else one_line(repr(value), 60)


def _existing(root: Node, path: Path_, keep: bool) -> Path_:
    """The part of `path` that is in the tree, as pydantic adds names of union members; with `keep` the last key too."""
    node, existing = root, []
    for part in path:
        child = node.child(part)
        if child is None:
            if keep and part == path[-1]:
                existing.append(part)
            break
        existing.append(part)
        node = child
    return tuple(existing)


def _model_at(model: type[BaseModel], path: Path_) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = _fields(current).get(str(part))
        current = _inner_model(field.annotation) if field else None
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list, tuple):
        for argument in get_args(annotation):
            inner = _inner_model(argument)
            if inner is not None:
                return inner
    return None


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _keys(model: type[BaseModel] | None) -> list[str]:
    return list(_fields(model)) if model is not None else []


def _field_description(model: type[BaseModel], path: Path_) -> str:
    parent = _model_at(model, path[:-1])
    field = _fields(parent).get(str(path[-1])) if parent is not None else None
    if field is None:
        return "it is needed"
    if field.description:
        return str(field.description)
    return f"expected {getattr(field.annotation, '__name__', typing.cast(Any, field.annotation))}".lower()


def at(root: Node, path: Path_, make: Callable[[], T]) -> T:
    """What `make()` returns; a `BenchError` becomes an `InvalidSweepError` with the place of `path` in the sweep."""
    try:
        return make()
    except InvalidSweepError:
        raise
    except BenchError as error:
        text = f"{error.what}; {error.do}" if error.do else error.what
        raise InvalidSweepError([problem(root, path, text)]) from error
