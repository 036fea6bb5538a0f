"""Names and references to objects: built-ins, entry points, `module:attr` and `file.py:attr`.

A file is loaded by its path under a name of its own; the import path is never touched, so a user's `models` package
or `random.py` beside a sweep cannot shadow anything.
"""

import hashlib
import importlib
import importlib.util
import sys
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.authors import place_of, register
from bench.errors import BenchError, cause_of
from bench.sweep.overlay import suggestion

if TYPE_CHECKING:
    from bench.sweep.schema import RewardSpec
    from methods.base import Method
    from rewards.base import Reward

EMBEDDED_MODELS = {"emoji": "models"}
"""Family -> the package whose folder of that name holds its versions: `emoji-v1` is `models/emoji/v1`."""

TRACEBACK = "--debug shows the traceback"


# -- references ------------------------------------------------------------------------------------------------


def is_reference(name: str) -> bool:
    """Whether `name` is `module:attr` or `file.py:attr` rather than a registered name."""
    return ":" in name


def resolve(reference: str, base: Path) -> str:
    """The reference with a file's path made absolute, relative to `base` (the sweep's folder)."""
    target, colon, attribute = reference.rpartition(":")
    if not colon or not target.endswith(".py"):
        return reference
    path = Path(target).expanduser()
    return f"{path if path.is_absolute() else (base / path).resolve()}:{attribute}"


def load_object(reference: str) -> Any:
    """What `module:attr` or `/path/file.py:attr` names.

    Raises:
        BenchError: the module, the file or the attribute is not there, or importing it fails.
    """
    target, _, attribute = reference.rpartition(":")
    if not target or not attribute:
        raise BenchError(f"{reference!r} is no reference", None, "write module:name or file.py:name")
    module = _load_file(Path(target)) if target.endswith(".py") else _load_module(target)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            public = [name for name in vars(module) if not name.startswith("_")]
            hint = suggestion(part, public)
            raise BenchError(f"{target} has no {attribute!r}", None, hint)
        value = getattr(value, part)
    return value


def source_hash(reference: str) -> str:
    """SHA-256 of the source that a reference is loaded from; of its name where there is no source."""
    import inspect

    target = reference.rpartition(":")[0]
    if target.endswith(".py"):
        return hashlib.sha256(Path(target).read_bytes()).hexdigest()
    try:
        source = inspect.getsource(_load_module(target))
    except (OSError, TypeError):
        source = target
    return hashlib.sha256(source.encode()).hexdigest()


def _load_module(name: str) -> ModuleType:
    from rewards.containment import contained, drawing

    register(name)
    if name in sys.modules:
        return sys.modules[name]
    try:
        with drawing("import"), contained(name):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"install it, or write {name.rpartition('.')[2]}.py:name for a file beside the sweep"
            raise BenchError(f"there is no module {name!r}", None, hint) from None
        raise BenchError(f"module {name!r} cannot be imported: {cause_of(error)}", None, TRACEBACK) from error
    except Exception as error:
        raise BenchError(f"module {name!r} cannot be imported: {cause_of(error)}", None, TRACEBACK) from error
    return module


def _load_file(path: Path) -> ModuleType:
    from rewards.containment import contained, drawing

    if not path.is_file():
        raise BenchError(f"there is no file {path}")
    # Named by its path and content: an edited file is loaded anew, the same one only once.
    content = path.read_bytes()
    digest = hashlib.sha256(str(path).encode() + content).hexdigest()[:16]
    name = f"alignprop_bench_plugin_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # What it draws is a constant of the file, wherever that lies.
        with drawing("import"), contained(hashlib.sha256(content).hexdigest()):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        raise BenchError(f"{path} cannot be loaded: {cause_of(error)}", None, TRACEBACK) from error
    return module


# -- entry points ----------------------------------------------------------------------------------------------


def installed(kind: str) -> dict[str, str]:
    """Names that installed packages register in the group `alignprop_bench.<kind>`, with their references."""
    return {point.name: point.value for point in entry_points(group=f"alignprop_bench.{kind}")}


# -- methods ---------------------------------------------------------------------------------------------------


def method_names() -> list[str]:
    """Built-in and installed methods."""
    from methods import registry

    return [*registry.names(), *sorted(installed("methods"))]


def load_method(reference: str) -> "type[Method]":
    """The class of a built-in or installed method, or the one a reference names."""
    from methods import registry
    from methods.base import Method

    if reference in registry.names():
        return registry.load(reference)
    target = installed("methods").get(reference, reference)
    if not is_reference(target):
        raise _unknown("method", reference, method_names())
    found = load_object(target)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise BenchError(f"{reference} is no method: expected a subclass of methods.base.Method")
    return found


def method_reference(name: str) -> str:
    """Where a method comes from, as `module:Class` or `file.py:Class`."""
    from methods import registry

    if name in registry.names():
        found = registry.load(name)
        return f"{found.__module__}:{found.__qualname__}"
    return installed("methods").get(name, name)


# -- rewards ---------------------------------------------------------------------------------------------------


def reward_names() -> list[str]:
    """Built-in and installed rewards."""
    from rewards import registry

    return [*registry.names(), *sorted(installed("rewards"))]


def check_reward_name(name: str) -> None:
    """Raises `BenchError` where a reward's name is unknown; imports nothing heavy and builds nothing."""
    if not is_reference(name) and name not in reward_names():
        raise _unknown("reward", name, reward_names())


def resolve_reward(spec: "RewardSpec", base: Path) -> "RewardSpec":
    """The reward with every file in it made absolute, relative to `base` (the sweep's folder), options included."""
    changes: dict[str, Any] = {
        name: str((base / value).resolve())
        for name, value in spec.options.items()
        if isinstance(value, str) and value and not Path(value).is_absolute() and (base / value).exists()
    }
    if spec.name is not None:
        changes["name"] = resolve(spec.name, base)
    if spec.clip is not None:
        changes["clip"] = resolve_reward(spec.clip, base)
    for kind in ("sum", "ensemble"):
        parts = getattr(spec, kind)
        if parts is not None:
            changes[kind] = tuple(resolve_reward(part, base) for part in parts)
    return spec.model_copy(update=changes)


def build_reward(spec: "RewardSpec") -> "Reward":
    """The reward a sweep asks for, built with its options, frozen.

    What it draws while it is built is the same in every trial, and what it does to the global state is undone.

    Raises:
        BenchError: it is unknown, its weights are missing, or its options do not fit.
    """
    from rewards.containment import contained, drawing

    try:
        with drawing("build"), contained(spec.shown):
            return _built(spec).freeze()
    except BenchError:
        raise
    except Exception as error:
        place = place_of(error)
        reason = str(error) if isinstance(error, OSError | ImportError) and not place else cause_of(error)
        do = TRACEBACK if place else None
        raise BenchError(f"reward {spec.shown} cannot be built: {reason}", None, do) from error


def _built(spec: "RewardSpec") -> "Reward":
    from rewards import registry
    from rewards.combine import Clip, Ensemble, Sum

    if spec.name is not None:
        check_reward_name(spec.name)
        if spec.name in registry.names():
            return registry.build(spec.name, **spec.options)
        return _as_reward(load_object(installed("rewards").get(spec.name, spec.name)), spec)
    if spec.http is not None:
        from rewards.remote import RemoteReward

        return RemoteReward(spec.http, spec.shown, **spec.options)
    parts = {part.shown: build_reward(part) for part in spec.parts}
    if spec.sum is not None:
        weights = [1.0 if part.weight is None else part.weight for part in spec.parts]
        return Sum(parts, spec.shown, weights, **spec.options)
    return (Ensemble if spec.ensemble else Clip)(parts, spec.shown, **spec.options)


def _as_reward(found: Any, spec: "RewardSpec") -> "Reward":
    from rewards.base import CallableReward, Reward

    if isinstance(found, type) and issubclass(found, Reward):
        return found(**spec.options)
    if isinstance(found, Reward):
        return found
    if not callable(found):
        raise BenchError(f"reward {spec.name} is a {type(found).__name__}; expected a Reward or a function")
    function = partial(found, **spec.options) if spec.options else found
    # A plain function says that it can be differentiated by an attribute: `score.differentiable = True`.
    return CallableReward(function, name=spec.shown, differentiable=getattr(found, "differentiable", False))


# -- models ----------------------------------------------------------------------------------------------------


def embedded_models() -> dict[str, Path]:
    """Models that ship with the package: name -> folder."""
    found: dict[str, Path] = {}
    for family, package in EMBEDDED_MODELS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            for folder in sorted((Path(root) / family).glob("v[0-9]*")):
                if (folder / "model_index.json").is_file():
                    found[f"{family}-{folder.name}"] = folder
    return found


def resolve_model(name: str, base: Path) -> str:
    """A built-in or installed model's folder, a folder beside the sweep, or a hub id as it is.

    Raises:
        BenchError: it is none of these.
    """
    ours = embedded_models()
    if name in ours:
        return str(ours[name])
    theirs = installed("models")
    if name in theirs:
        found = load_object(theirs[name])
        return str(found() if callable(found) else found)
    path = Path(name).expanduser()
    path = path if path.is_absolute() else base / path
    if path.is_dir() or path.is_file():
        return str(path.resolve())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    known = [*ours, *theirs]
    hint = suggestion(name, known)
    there = f"there are {', '.join(known)}" if known else "none ships with this installation"
    do = hint or f"{there}; or give a folder in diffusers layout, or a hub id owner/name"
    raise BenchError(f"there is no model {name!r}", None, do)


def _unknown(kind: str, name: str, known: list[str]) -> BenchError:
    hint = suggestion(name, known) or f"there are {', '.join(known)}"
    return BenchError(f"there is no {kind} {name!r}; {hint}")
