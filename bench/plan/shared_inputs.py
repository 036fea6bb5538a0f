"""The inputs that all trials of a sweep share: model, prompts and rewards, found, validated and hashed once."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from bench.build import plugins
from bench.build.trial_spec import RewardRef
from bench.errors import InvalidSweepError
from bench.plan.identity import reward_fingerprint
from bench.plan.model_facts import ModelFacts, facts_of
from bench.plan.prompt_tokens import Splits, check_tokens
from bench.sweep import prompts
from bench.sweep.load import LoadedSweep
from bench.sweep.problems import Problems, at, dotted, problem
from bench.sweep.schema import Prompts, RewardSpec
from bench.sweep.yaml_source import Path_
from models.adapter import wrong_targets
from models.loading import MissingModelError
from models.paths.base import NoisePath
from models.weight_files import UnsupportedModelError
from rewards.base import Reward


@dataclass(frozen=True)
class SharedInputs:
    """The model, prompts and rewards of all trials of a sweep.

    Attributes:
        model: a local folder (absolute), a hub id, or the reference of a model family.
        model_hash: SHA-256 of the model's weights.
        family: the name of the model's family.
        train, heldout: the prompts of each split.
        reward, rewards, gold: the optimised reward, those that are only reported, and the gold reward.
        path: the model's noise process; None for a hub model that has not been fetched yet.
        sampler_version: version of the code that samples the model (see `models.schedulers`).
        warnings: sentences on the model and the prompts that a reader of the results must know.
        splits: path in the sweep -> prompts, those of tuning among them.
    """

    model: str
    model_hash: str
    train: tuple[str, ...]
    heldout: tuple[str, ...]
    reward: RewardRef
    rewards: tuple[RewardRef, ...]
    gold: RewardRef | None
    family: str = ""
    path: NoisePath | None = None
    sampler_version: str = "1"
    warnings: tuple[str, ...] = ()
    splits: Splits = field(default_factory=dict)

    def for_tuning(self) -> "SharedInputs":
        """The same on the prompts of tuning: `search.prompts`, or else the training prompts, with none held out."""
        splits = self.splits
        if ("search", "prompts", "train") not in splits:
            return replace(self, heldout=())
        train, heldout = (splits.get(("search", "prompts", split), ()) for split in ("train", "heldout"))
        return replace(self, train=train, heldout=heldout)


def shared_inputs(loaded: LoadedSweep, problems: Problems) -> SharedInputs:
    """Finds, validates and hashes the shared inputs of a sweep.

    Args:
        loaded: the sweep.
        problems: collects the problems; an input with a problem is left empty.
    """
    sweep, base = loaded.sweep, loaded.base
    # Cheap checks come first: the error for a misspelt name should not wait for torch.
    warnings: list[str] = []
    splits = _splits(loaded, problems, warnings)
    model = problems.collect(lambda: at(loaded.root, ("model",), lambda: plugins.resolve_model(sweep.model, base)))
    facts = problems.collect(lambda: at(loaded.root, ("model",), lambda: _model_facts(loaded, model, problems)))
    reward = problems.collect(lambda: _reward(loaded, sweep.reward, ("reward",)))
    rewards = [
        problems.collect(partial(_reward, loaded, spec, ("evaluate", "rewards", index)))
        for index, spec in enumerate(sweep.evaluate.rewards)
    ]
    gold_spec = sweep.evaluate.gold
    gold = problems.collect(lambda: _reward(loaded, gold_spec, ("evaluate", "gold"))) if gold_spec else None
    problems.lines += _repeated_labels(loaded)
    model_hash = ""
    if model and facts and not problems.lines:  # hashing may read gigabytes, so it comes after every other check
        model_hash = at(loaded.root, ("model",), facts.hash)
        warnings += [f"model {sweep.model}: {note}" for note in facts.notes]
        check = partial(check_tokens, loaded, model, model_hash, splits)
        warnings += problems.collect(lambda: at(loaded.root, ("model",), check)) or []
    return SharedInputs(
        model or "",
        model_hash,
        splits.get(("prompts", "train"), ()),
        splits.get(("prompts", "heldout"), ()),
        cast(RewardRef, reward),
        tuple(ref for ref in rewards if ref is not None),
        gold,
        facts.family if facts else "",
        facts.path if facts else None,
        facts.sampler_version if facts else "1",
        tuple(warnings),
        splits,
    )


# -- prompts ---------------------------------------------------------------------------------------------------


def _splits(loaded: LoadedSweep, problems: Problems, warnings: list[str]) -> Splits:
    """The prompts of the comparison and of tuning by their path in the sweep; adds to `problems` and `warnings`."""
    sources: dict[Path_, Prompts] = {("prompts",): loaded.sweep.prompts}
    if loaded.sweep.search and loaded.sweep.search.prompts:
        sources["search", "prompts"] = loaded.sweep.search.prompts
    splits: Splits = {}
    for place, both in sources.items():
        for name, source in (("train", both.train), ("heldout", both.heldout)):
            if source is None:
                continue
            path, notes = (*place, name), list[str]()
            read = partial(prompts.read, source, loaded.base, notes.append)
            splits[path] = problems.collect(partial(at, loaded.root, path, read)) or ()
            warnings += [f"{dotted(path)}: {sentence}" for sentence in notes]
        shared = sorted(set(splits[(*place, "train")]) & set(splits.get((*place, "heldout"), ())))
        if shared:
            text = f"{shared[0]!r} is a training prompt too; held-out prompts must not be trained on"
            problems.lines.append(problem(loaded.root, (*place, "heldout"), text))
    return splits


# -- the model -------------------------------------------------------------------------------------------------


def _model_facts(loaded: LoadedSweep, model: str | None, problems: Problems) -> ModelFacts | None:
    """The facts of the sweep's model; None for an unusable one, and for None.

    An unusable model, and LoRA targets that the denoiser does not have, are added to `problems`.
    """
    if model is None:
        return None
    try:
        facts = facts_of(model)
    except (MissingModelError, UnsupportedModelError) as error:
        problems.lines.append(problem(loaded.root, ("model",), str(error)))
        return None
    if facts.denoiser is not None:
        wrong = wrong_targets(facts.denoiser, loaded.sweep.lora.targets)
        problems.lines += [problem(loaded.root, ("lora", "targets"), what) for what in wrong]
    return facts


# -- rewards ---------------------------------------------------------------------------------------------------


def _repeated_labels(loaded: LoadedSweep) -> list[str]:
    """A problem for each reported reward whose label another reward has, as each label names a column."""
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
    """Builds the reward at `path` of the sweep and identifies it."""
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
    """Label -> SHA-256 of the weights, for the reward and all its parts."""
    own = {spec.shown: built.weights_sha256} if built.weights_sha256 else {}
    for part in spec.parts:
        own |= _weights(part, built.parts[part.shown])
    return own
