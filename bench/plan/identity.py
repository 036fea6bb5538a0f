"""A trial's identity: the hash of everything that decides its numbers, except its seed.

The identity covers settings that differ from their defaults (so that a new setting with a default changes no earlier
identity), the source of the method and of the modules it imports, the sampler's version, the hashes of model, rewards
and prompts, the budget, evaluation, precision, workers and ZeRO stage. It does not cover names, descriptions, tracking,
retries, threads, executor and paths.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.build.plugins import is_reference, load_method, method_reference, source_hash
from bench.build.trial_spec import Budget, EvaluationPlan, RewardRef, Trial
from bench.digest import digest
from bench.sweep.prompts import prompts_hash
from bench.sweep.schema import Lora, RewardSpec, Sampler
from rewards.base import Reward

TRANSPORT = ("timeout", "retries", "backoff", "batch")
"""Options of a reward on a server that change no score."""

DECIDING = (
    "method",
    "sampler",
    "lora",
    "reward",
    "rewards",
    "gold",
    "prompts_train",
    "prompts_heldout",
    "budget",
    "evaluate",
    "precision",
    "workers",
    "zero",
    "sampler_version",
)
"""Fields of `Trial` that decide its numbers."""


def trial_identity(
    *,
    method: str,
    method_source: str,
    settings: Mapping[str, Any],
    sampler_version: str,
    sampler: Sampler,
    lora: Lora,
    model_hash: str,
    reward: RewardRef,
    rewards: Sequence[RewardRef],
    gold: RewardRef | None,
    prompts_train: Sequence[str],
    prompts_heldout: Sequence[str],
    budget: Budget,
    evaluate: EvaluationPlan,
    precision: str,
    workers: int,
    zero: int,
) -> str:
    """The identity of a trial: SHA-256 as 64 hexadecimal digits.

    Args:
        method: the method's own name, not the variant's.
        method_source: the hash that `method_source` gives for the method.
        settings: the settings that differ from the method's defaults.
        sampler_version: the version of `models.schedulers.Replacement`.
        model_hash: SHA-256 of the model's weights.
    """
    described: dict[str, Any] = {
        "method": method,
        "method_source": method_source,
        "settings": dict(settings),
        "sampler_version": sampler_version,
        "sampler": sampler.model_dump(exclude_defaults=True),
        "lora": lora.model_dump(exclude_defaults=True, mode="json"),
        "model": model_hash,
        "reward": reward.fingerprint,
        "rewards": [other.fingerprint for other in rewards],
        "gold": gold.fingerprint if gold else None,
        "prompts_train": prompts_hash(prompts_train),
        "prompts_heldout": prompts_hash(prompts_heldout),
        "budget": budget.model_dump(),
        "evaluate": evaluate.model_dump(exclude={"average", "scale"}) | evaluate.adapter,
    }
    for name, value, default in (("precision", precision, "fp32"), ("workers", workers, 1), ("zero", zero, 0)):
        if value != default:
            described[name] = value
    return digest(described)


def identified(trial: Trial) -> Trial:
    """A copy of a trial with its identity, which is computed here; its other fields must be complete."""
    checked = load_method(trial.reference).Settings(**trial.settings)
    identity = trial_identity(
        **{name: getattr(trial, name) for name in DECIDING},
        method_source=method_source(method_reference(trial.reference)),
        settings=checked.model_dump(mode="json", exclude_defaults=True),
        model_hash=trial.weights["model"],
    )
    return trial.model_copy(update={"settings": checked.model_dump(mode="json"), "identity": identity})


def method_source(reference: str) -> str:
    """The hash of a method's source and of every module it imports from `methods` or its own package.

    Import statements are read from the source and not executed, so a peer's library need not be installed.

    Args:
        reference: `module:Class` or `/path/file.py:Class`.
    """
    return digest([source_hash(reference), *(_text_hash(name) for name in modules_of(reference))])


def modules_of(reference: str) -> list[str]:
    """The modules of `methods` and of the method's own package that it imports, directly or through others; sorted."""
    target = reference.rpartition(":")[0]
    own = "" if target.endswith(".py") else target.partition(".")[0]
    modules: set[str] = set()
    waiting = [target]
    while waiting:
        module = waiting.pop()
        path = Path(module) if module.endswith(".py") else _file_of(module)
        # A file that is loaded by its path is in no package, so it has no relative imports.
        package = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
        for name in _imports(path.read_text(encoding="utf-8"), package) if path else ():
            if name.partition(".")[0] in ("methods", own) and name not in modules and name != target and _file_of(name):
                modules.add(name)
                waiting.append(name)
    return sorted(modules)


@lru_cache(maxsize=512)
def _imports(source: str, package: str) -> tuple[str, ...]:
    """Names of the modules that a source in `package` imports, and `module.name` of what it imports from each.

    An imported name may be a module too.
    """
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(names)


@lru_cache(maxsize=512)
def _file_of(module: str) -> Path | None:
    """The file of a module's source; None for a name that is no module, or one without source.

    Python is asked for the top-level package only, as its search for a submodule would import the packages above it.
    """
    package, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not parts:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    places = [Path(folder, *parts) for folder in spec.submodule_search_locations or ()]
    files = [file for place in places for file in (place / "__init__.py", place.with_name(f"{place.name}.py"))]
    return next((file for file in files if file.is_file()), None)


def _text_hash(module: str) -> str:
    path = _file_of(module)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else module


def reward_fingerprint(spec: RewardSpec, built: Reward) -> str:
    """The hash of what decides a reward's scores; a reference counts by its source, not by its path.

    Args:
        spec: the reward's description, with absolute paths.
        built: the reward, whose parts have versions and weights of their own.
    """
    options = dict(spec.options)
    if spec.http is not None:  # options of the transport change no score
        options = {name: value for name, value in options.items() if name not in TRANSPORT}
    if spec.ensemble is not None and options.get("k") == 1:
        del options["k"]
    described: dict[str, Any] = {"options": options, "version": built.version, "weights": built.weights_sha256}
    if spec.parts:
        described |= {
            "what": spec.kind,
            "parts": [reward_fingerprint(part, built.parts[part.shown]) for part in spec.parts],
            "part_weights": [1.0 if part.weight is None else part.weight for part in spec.parts],
        }
    elif spec.name is not None and is_reference(spec.name):
        described["what"] = source_hash(spec.name) + spec.name.rpartition(":")[2]
    else:
        described["what"] = spec.name or spec.http
    return digest(described)
