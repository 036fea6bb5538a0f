"""Loads the object that a name or a reference stands for: built-ins, entry points, `module:attr` and `file.py:attr`.

A file is loaded by its path under a unique module name, and `sys.path` is never changed, so a user's `models` package
or `random.py` beside a sweep cannot shadow a module of the same name.
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
    import torch

    from bench.sweep.schema import RewardSpec
    from methods.base import Method
    from methods.presentation import Presentation
    from models.families.base import Family
    from rewards.base import Reward

EMBEDDED_MODELS = {"emoji": "models"}
"""Family -> the package with a folder of the family's versions: `emoji-v1` is `models/emoji/v1`."""

TRACEBACK = "--debug shows the traceback"


# -- references ------------------------------------------------------------------------------------------------


def is_reference(name: str) -> bool:
    """Whether `name` is `module:attr` or `file.py:attr` rather than a registered name."""
    return ":" in name


def resolve(reference: str, base: Path) -> str:
    """The reference; if it names a file, with its path made absolute from `base` (the sweep's folder)."""
    target, colon, attribute = reference.rpartition(":")
    if not colon or not target.endswith(".py"):
        return reference
    path = Path(target).expanduser()
    return f"{path if path.is_absolute() else (base / path).resolve()}:{attribute}"


def load_object(reference: str) -> Any:
    """The object that `module:attr` or `/path/file.py:attr` names.

    Raises:
        BenchError: the module, the file or the attribute does not exist, or importing it fails.
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
    """SHA-256 of the source that a reference is loaded from, or of the module's name if it has no source."""
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
    # The module's name has a hash of path and content: an edited file is loaded anew, an unchanged one only once.
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
        # Random numbers that the file draws while it loads depend on its content, not on its path.
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
    """Name -> reference, as installed packages register them in the entry point group `alignprop_bench.<kind>`."""
    return {point.name: point.value for point in entry_points(group=f"alignprop_bench.{kind}")}


# -- methods ---------------------------------------------------------------------------------------------------


def method_names() -> list[str]:
    """Names of the built-in and installed methods."""
    from methods import registry

    return [*registry.names(), *sorted(installed("methods"))]


def load_method(reference: str) -> "type[Method]":
    """The class of a built-in or installed method, or of the method that a reference names.

    Raises:
        BenchError: there is no such method, or the reference names something else.
    """
    from methods import registry
    from methods.base import Method

    if reference in registry.names():
        return registry.load(reference)
    target = installed("methods").get(reference, reference)
    if not is_reference(target):
        raise _unknown("method", reference, method_names())
    cls = load_object(target)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise BenchError(f"{reference} is no method: expected a subclass of methods.base.Method")
    return cls


def presentation_of(reference: str) -> "Presentation":
    """The presentation in reports of the method that `load_method` loads by `reference`."""
    from methods import registry

    return registry.presentation(load_method(reference))


def method_reference(name: str) -> str:
    """The reference of a method's class, `module:Class` or `file.py:Class`; a reference is returned unchanged."""
    from methods import registry

    if name in registry.names():
        cls = registry.load(name)
        return f"{cls.__module__}:{cls.__qualname__}"
    return installed("methods").get(name, name)


# -- rewards ---------------------------------------------------------------------------------------------------


def reward_names() -> list[str]:
    """Names of the built-in and installed rewards."""
    from rewards import registry

    return [*registry.names(), *sorted(installed("rewards"))]


def check_reward_name(name: str) -> None:
    """Raises `BenchError` if a reward's name is unknown; imports nothing heavy and builds nothing."""
    if not is_reference(name) and name not in reward_names():
        raise _unknown("reward", name, reward_names())


def resolve_reward(spec: "RewardSpec", base: Path) -> "RewardSpec":
    """The reward's description with absolute paths, in its options too; relative ones are taken from `base`."""
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
    """Builds the reward that a sweep describes, with its options and parts, and freezes its weights.

    Random numbers drawn while it is built are the same in every trial, and its changes of global state are undone.

    Raises:
        BenchError: the reward is unknown, its weights are missing, or it refuses its options.
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


def _as_reward(plugin: Any, spec: "RewardSpec") -> "Reward":
    """The reward that a plug-in gives, which is a class, an object or a scoring function."""
    from rewards.base import CallableReward, Reward

    if isinstance(plugin, type) and issubclass(plugin, Reward):
        return plugin(**spec.options)
    if isinstance(plugin, Reward):
        return plugin
    if not callable(plugin):
        raise BenchError(f"reward {spec.name} is a {type(plugin).__name__}; expected a Reward or a function")
    function = partial(plugin, **spec.options) if spec.options else plugin
    # A function declares that it is differentiable by an attribute: `score.differentiable = True`.
    return CallableReward(function, name=spec.shown, differentiable=getattr(plugin, "differentiable", False))


# -- models ----------------------------------------------------------------------------------------------------


def embedded_models() -> dict[str, Path]:
    """Name -> folder of the models that ship with the package."""
    models: dict[str, Path] = {}
    for family, package in EMBEDDED_MODELS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            for folder in sorted((Path(root) / family).glob("v[0-9]*")):
                if (folder / "model_index.json").is_file():
                    models[f"{family}-{folder.name}"] = folder
    return models


def resolve_model(name: str, base: Path) -> str:
    """The folder (absolute) of a built-in or installed model or of a path, a hub id unchanged, or a family's reference.

    Args:
        name: a model's name, a path relative to `base`, a hub id, or the reference of a `models.families.base.Family`.
        base: the sweep's folder.

    Raises:
        BenchError: there is no such model or folder, and the name is no hub id.
    """
    embedded = embedded_models()
    if name in embedded:
        return str(embedded[name])
    registered = installed("models")
    if name in registered:
        found = load_object(registered[name])
        if isinstance(found, type):
            return registered[name]
        return str(found() if callable(found) else found)
    path = Path(name).expanduser()
    path = path if path.is_absolute() else base / path
    if path.is_dir() or path.is_file():
        return str(path.resolve())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    if is_reference(name):
        return resolve(name, base)
    names = [*embedded, *registered]
    listed = f"there are {', '.join(names)}" if names else "none ships with this installation"
    do = (
        suggestion(name, names)
        or f"{listed}; or give a folder in diffusers layout, a hub id owner/name, or file.py:Family"
    )
    raise BenchError(f"there is no model {name!r}", None, do)


def names_family(model: str) -> bool:
    """Whether a model, as `resolve_model` returns it, is the reference of a family of one's own."""
    return is_reference(model) and not Path(model).exists()


def load_family(model: str, device: str = "cpu", dtype: "torch.dtype | None" = None) -> "Family":
    """Builds the model that `resolve_model` returned, on a device and in a precision (fp32 by default).

    Random numbers that a family of one's own draws while it is built are the same in every trial.

    Raises:
        BenchError: a family of one's own is no `Family`, or cannot be built.
    """
    import torch

    from models.families.base import Family
    from models.families.stable_diffusion import StableDiffusion
    from rewards.containment import contained, drawing

    dtype = dtype or torch.float32
    if not names_family(model):
        return StableDiffusion.load(model, device, dtype)
    cls = load_object(model)
    if not (isinstance(cls, type) and issubclass(cls, Family)):
        raise BenchError(f"model {model} is no model: expected a subclass of models.families.base.Family")
    try:
        with drawing("build"), contained(model):
            return cls(device=device, dtype=dtype)  # type: ignore[call-arg]
    except Exception as error:
        place = place_of(error)
        raise BenchError(
            f"model {model} cannot be built: {cause_of(error)}", None, TRACEBACK if place else None
        ) from error


def _unknown(kind: str, name: str, known: list[str]) -> BenchError:
    hint = suggestion(name, known) or f"there are {', '.join(known)}"
    return BenchError(f"there is no {kind} {name!r}; {hint}")
