"""A trial's identity: the hash of everything that decides its numbers, except its seed.

In it: algorithmic settings that differ from defaults (so that a new setting with a default changes no old identity),
the method's source, the sampler's version, model, rewards and prompts by hash, budget, evaluation, precision, workers
and ZeRO stage. Not in it: names, descriptions, tracking, retries, threads, executor, paths.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.plugins import is_reference, source_hash
from bench.prompts import prompts_hash
from bench.sweep import Lora, Sampler
from bench.trial_spec import Budget, EvaluationPlan, RewardRef


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
    """SHA-256, 64 hexadecimal digits.

    Args:
        method: the method's own name, not the variant's.
        method_source: hash of its module's source.
        settings: those that differ from the method's defaults.
        sampler_version: `models.sampler.SAMPLER_VERSION`.
        model_hash: of the weights.
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
        "evaluate": evaluate.model_dump(),
    }
    for name, value, default in (("precision", precision, "fp32"), ("workers", workers, 1), ("zero", zero, 0)):
        if value != default:
            described[name] = value
    return digest(described)


def reward_fingerprint(name: str, options: Mapping[str, Any], version: str, weights: str | None) -> str:
    """Hash of what decides a reward's scores. A reference counts by its source, not by where its file lies."""
    what = source_hash(name) + name.rpartition(":")[2] if is_reference(name) else name
    return digest({"what": what, "options": dict(options), "version": version, "weights": weights})


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
