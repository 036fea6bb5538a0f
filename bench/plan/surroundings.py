"""What all trials of a sweep share: model, prompts and rewards, looked up, looked at and hashed once."""

from dataclasses import dataclass
from functools import partial
from typing import cast

from bench.build import plugins
from bench.build.trial_spec import RewardRef
from bench.errors import InvalidSweepError
from bench.plan.identity import reward_fingerprint
from bench.plan.prompt_tokens import Splits, check_tokens
from bench.sweep import prompts
from bench.sweep.load import LoadedSweep
from bench.sweep.problems import Problems, at, dotted, problem
from bench.sweep.schema import Prompts, RewardSpec
from bench.sweep.yaml_source import Path_
from models.adapter import wrong_targets
from models.inspection import Inspection, bare_unet
from models.loading import MissingModelError, find_model, inspected, model_hash
from models.sampler import Schedule
from models.weight_files import UnsupportedModelError
from rewards.base import Reward


@dataclass(frozen=True)
class Surroundings:
    """What all trials of a sweep share.

    Attributes:
        schedule: DDIM on the model's noise schedule; None for a model on the hub that is not here yet.
        sampler_version: of the code that samples the model.
        warnings: what a reader of the numbers must know of the model and the prompts, a sentence each.
    """

    model: str
    model_hash: str
    train: tuple[str, ...]
    heldout: tuple[str, ...]
    reward: RewardRef
    rewards: tuple[RewardRef, ...]
    gold: RewardRef | None
    schedule: Schedule | None = None
    sampler_version: str = "1"
    warnings: tuple[str, ...] = ()


def surroundings(loaded: LoadedSweep, found: Problems, prompts_at: Path_) -> Surroundings:
    """What the trials share; a part with a problem, which is in `found` then, is empty.

    Args:
        prompts_at: where the prompts of the trials stand in the file: the comparison's, or the tuning's.
    """
    sweep, base = loaded.sweep, loaded.base
    # Cheap checks first: a misspelt name should not have to wait for torch.
    warnings: list[str] = []
    splits = _splits(loaded, prompts_at, found, warnings)
    model = found.tried(lambda: at(loaded.root, ("model",), lambda: plugins.resolve_model(sweep.model, base)))
    inspection = _inspected(loaded, model, found) if model else None
    reward = found.tried(lambda: _reward(loaded, sweep.reward, ("reward",)))
    rewards = [
        found.tried(partial(_reward, loaded, spec, ("evaluate", "rewards", index)))
        for index, spec in enumerate(sweep.evaluate.rewards)
    ]
    gold_spec = sweep.evaluate.gold
    gold = found.tried(lambda: _reward(loaded, gold_spec, ("evaluate", "gold"))) if gold_spec else None
    found.lines += _repeated_labels(loaded)
    model_hash = ""
    if model and not found.lines:  # gigabytes are hashed once all else is well
        model_hash = at(loaded.root, ("model",), lambda: _hash_model(model))
        warnings += [f"model {sweep.model}: {note}" for note in (inspection.notes if inspection else ())]
        check = partial(check_tokens, loaded, model, model_hash, splits)
        warnings += found.tried(lambda: at(loaded.root, ("model",), check)) or []
    return Surroundings(
        model or "",
        model_hash,
        splits.get((*prompts_at, "train"), ()),
        splits.get((*prompts_at, "heldout"), ()),
        cast(RewardRef, reward),
        tuple(ref for ref in rewards if ref is not None),
        gold,
        inspection.sampling.schedule if inspection else None,
        inspection.sampling.version if inspection else "1",
        tuple(warnings),
    )


# -- prompts ---------------------------------------------------------------------------------------------------


def _splits(loaded: LoadedSweep, prompts_at: Path_, found: Problems, warnings: list[str]) -> Splits:
    """The prompts by their place in the sweep, those of tuning too; what is told of their files joins the warnings."""
    asked: dict[Path_, Prompts] = {prompts_at: loaded.sweep.prompts}
    if loaded.sweep.search and loaded.sweep.search.prompts:
        asked["search", "prompts"] = loaded.sweep.search.prompts
    splits: Splits = {}
    for place, both in asked.items():
        for name, source in (("train", both.train), ("heldout", both.heldout)):
            if source is None:
                continue
            path, told = (*place, name), list[str]()
            read = partial(prompts.read, source, loaded.base, told.append)
            splits[path] = found.tried(partial(at, loaded.root, path, read)) or ()
            warnings += [f"{dotted(path)}: {sentence}" for sentence in told]
        shared = sorted(set(splits[(*place, "train")]) & set(splits.get((*place, "heldout"), ())))
        if shared:
            text = f"{shared[0]!r} is a training prompt too; held-out prompts must not be trained on"
            found.lines.append(problem(loaded.root, (*place, "heldout"), text))
    return splits


# -- the model -------------------------------------------------------------------------------------------------


def _inspected(loaded: LoadedSweep, model: str, found: Problems) -> Inspection | None:
    """The model, where it can be used and adapted; None for one on the hub that is not here yet."""
    try:
        seen = inspected(model)
        unet = bare_unet(seen.unet) if seen else None
    except (MissingModelError, UnsupportedModelError) as error:
        found.lines.append(problem(loaded.root, ("model",), str(error)))
        return None
    if unet is not None:
        wrong = wrong_targets(unet, loaded.sweep.lora.targets)
        found.lines += [problem(loaded.root, ("lora", "targets"), what) for what in wrong]
    return seen


def _hash_model(model: str) -> str:
    return model_hash(find_model(model))


# -- rewards ---------------------------------------------------------------------------------------------------


def _repeated_labels(loaded: LoadedSweep) -> list[str]:
    """A problem for each reward whose column another one has."""
    sweep, lines = loaded.sweep, []
    labels = [spec.shown for spec in sweep.evaluate.rewards]
    parts = {part.shown for part in sweep.reward.inside()}
    for index, label in enumerate(labels):
        if label in labels[:index] or label in parts:
            what = "is a part of the reward and reported already" if label in parts else "appears twice"
            text = f"{label!r} {what}; a column can hold one: leave it out, or give it a `label:` of its own"
            lines.append(problem(loaded.root, ("evaluate", "rewards", index), text))
    return lines


def _reward(loaded: LoadedSweep, spec: RewardSpec, path: Path_) -> RewardRef:
    if spec.weight is not None:
        text = "a weight belongs to a part of a sum: reward: {sum: [{name: ..., weight: ...}, ...]}"
        raise InvalidSweepError([problem(loaded.root, (*path, "weight"), text)])
    absolute = plugins.resolve_reward(spec, loaded.base)
    built = at(loaded.root, path, lambda: plugins.build_reward(absolute))
    return RewardRef(
        spec=absolute,
        label=spec.shown,
        differentiable=built.differentiable,
        weights=_weights(absolute, built),
        fingerprint=at(loaded.root, path, lambda: reward_fingerprint(absolute, built)),
        embeds=hasattr(built, "embed"),
    )


def _weights(spec: RewardSpec, built: Reward) -> dict[str, str]:
    """Label -> SHA-256, of the reward and all it is made of."""
    own = {spec.shown: built.weights_sha256} if built.weights_sha256 else {}
    for part in spec.parts:
        own |= _weights(part, built.parts[part.shown])
    return own
