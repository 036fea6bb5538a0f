"""What must be alike for two runs' numbers to stand side by side: said once, for a joint report, a merge and the gate.

It is known before anything runs and kept in `plan.json`. What gives the optimised reward's numbers is the protocol;
what gives those beside it is told metric by metric, since a run that reports one more measure is still comparable.
"""

from collections.abc import Mapping
from typing import Any

from bench.build.trial_spec import RewardRef, Trial, reward_metrics
from bench.digest import digest

SHOWN = 16
"""Hexadecimal digits of a hash that are kept."""


def protocol_of(trial: Trial) -> dict[str, Any]:
    """What the optimised reward's curve depends on, beside the method; nested, and the same for all trials of a run.

    Files and models count by their content, not by where they lie.
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
        },
        "evaluated every": evaluate.every,
        "budget": {"axis": trial.budget.axis, "limit": trial.budget.limit},
        "precision": trial.precision,
    }


def measures_of(trial: Trial) -> dict[str, str]:
    """Metric beside the optimised reward -> the hash of what gives it."""
    versions = {metric: ref.fingerprint[:SHOWN] for metric, ref in reward_metrics(trial).items()}
    embedding = _embedding(trial)
    seen_by = embedding.fingerprint[:SHOWN] if embedding else "thumbnails"
    return {**{metric: version for metric, version in versions.items() if metric != "reward"}, "diversity": seen_by}


def features_of(trial: Trial) -> str:
    """What diversity is measured in, in words."""
    embedding = _embedding(trial)
    return f"features of {embedding.label}" if embedding else "16 × 16 thumbnails"


def _embedding(trial: Trial) -> RewardRef | None:
    """The reward whose image features evaluation takes: the last that has any."""
    embedding = [ref for ref in reward_metrics(trial).values() if ref.embeds]
    return embedding[-1] if embedding else None


def clashing_measures(own: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[str]:
    """Metrics that two runs have and measure differently.

    Args:
        own, other: each run's `measures_of`; None where its version did not record them.
    """
    own, other = own or {}, other or {}
    return [metric for metric in own if metric in other and own[metric] != other[metric]]


def in_words(protocol: Mapping[str, Any] | None, label: str, evaluation: str) -> dict[str, str]:
    """What evaluated numbers depend on, for a reader: the protocol but for the budget's limit, as curves of two lengths
    can be compared where both have been.

    Args:
        protocol: of `protocol_of`; None where the run's version did not record it.
        label: the optimised reward's.
        evaluation: how numbers are measured, in words.
    """
    if protocol is None:
        return {"reward": label, "evaluation": evaluation}
    reward, prompts = protocol["reward"], protocol["prompts"]
    found = {"reward": f"{reward['name']} ({reward['version'][:8]})", "model": protocol["model"][:8]}
    for split, words in (("train", "training prompts"), ("heldout", "held-out prompts")):
        if prompts[split]["count"]:
            found[words] = f"{prompts[split]['count']} prompts, {prompts[split]['digest'][:8]}"
    every = f"every {protocol['evaluated every']:g} {protocol['budget']['axis'].replace('_', ' ')}"
    return {**found, "evaluation": evaluation, "points": every, "precision": protocol["precision"]}
