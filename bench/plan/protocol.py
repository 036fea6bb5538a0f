"""The protocol of a run: what must be the same for the numbers of two runs to be comparable.

Joint reports, merges and the gate compare it. It is known before the run starts and stored in `plan.json`. The protocol
covers the optimised reward; every other metric has its own hash, as a run with one more metric is still comparable.
"""

from collections.abc import Mapping
from typing import Any

from bench.build.trial_spec import RewardRef, Trial, reward_metrics
from bench.digest import digest

SHOWN = 16
"""Hexadecimal digits that are stored of each hash."""


def protocol_of(trial: Trial) -> dict[str, Any]:
    """The protocol of a trial's run, as nested dicts: all that its reward curve depends on, except the method and seed.

    It is the same for all trials of a run. Files and models count by their content, not by their path.
    """
    evaluate = trial.evaluate
    prompts = {"train": trial.prompts_train, "heldout": trial.prompts_heldout}
    return {
        "reward": {"name": trial.reward.label, "version": trial.reward.fingerprint[:SHOWN]},
        "model": trial.weights["model"][:SHOWN],
        "prompts": {
            split: {"count": len(texts), "digest": digest(list(texts))[:SHOWN]} for split, texts in prompts.items()
        },
        "evaluation": {
            "prompts": evaluate.prompts,
            "images": evaluate.images,
            "seed": evaluate.seed,
            "sampler": evaluate.sampler.model_dump(mode="json"),
            **evaluate.adapter,
        },
        "evaluated every": evaluate.every,
        "budget": {"axis": trial.budget.axis, "limit": trial.budget.limit},
        "precision": trial.precision,
    }


def measures_of(trial: Trial) -> dict[str, str]:
    """Metric -> the hash of what it is measured by, for every metric but the optimised reward."""
    versions = {metric: ref.fingerprint[:SHOWN] for metric, ref in reward_metrics(trial).items()}
    embedding = _embedding(trial)
    features = embedding.fingerprint[:SHOWN] if embedding else "thumbnails"
    return {**{metric: version for metric, version in versions.items() if metric != "reward"}, "diversity": features}


def features_of(trial: Trial) -> str:
    """The image features that diversity is measured by, as a phrase for the report."""
    embedding = _embedding(trial)
    return f"features of {embedding.label}" if embedding else "16 × 16 thumbnails"


def _embedding(trial: Trial) -> RewardRef | None:
    """The reward whose image features diversity is measured by: the last one that has any; None if none has."""
    embedding = [ref for ref in reward_metrics(trial).values() if ref.embeds]
    return embedding[-1] if embedding else None


def clashing_measures(own: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[str]:
    """Metrics that two runs measure by different rewards or features.

    Args:
        own, other: what `measures_of` gives for each run; None if the run's version stored none.
    """
    own, other = own or {}, other or {}
    return [metric for metric in own if metric in other and own[metric] != other[metric]]


def in_words(protocol: Mapping[str, Any] | None, label: str, evaluation: str) -> dict[str, str]:
    """The protocol as the report shows it, name -> phrase.

    The budget's limit is left out, as curves of two lengths are comparable as far as the shorter one goes.

    Args:
        protocol: what `protocol_of` gives; None if the run's version stored none.
        label: the label of the optimised reward.
        evaluation: a sentence on how images are evaluated.
    """
    if protocol is None:
        return {"reward": label, "evaluation": evaluation}
    reward, prompts = protocol["reward"], protocol["prompts"]
    phrases = {"reward": f"{reward['name']} ({reward['version'][:8]})", "model": protocol["model"][:8]}
    for split, name in (("train", "training prompts"), ("heldout", "held-out prompts")):
        if prompts[split]["count"]:
            phrases[name] = f"{prompts[split]['count']} prompts, {prompts[split]['digest'][:8]}"
    every = f"every {protocol['evaluated every']:g} {protocol['budget']['axis'].replace('_', ' ')}"
    return {**phrases, "evaluation": evaluation, "points": every, "precision": protocol["precision"]}
