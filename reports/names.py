"""The vocabulary of the frames: axes, metrics, splits, statuses. It imports nothing, so that no command waits for it.

The harness's own lists must hold the same names; `tests/test_house.py` compares them.
"""

CURVE_AXES = (
    "steps",
    "updates",
    "reward_queries",
    "reward_gradients",
    "images",
    "nfe_forward",
    "nfe_backward",
    "nfe_recompute",
    "nfe",
    "decodes",
    "flops",
    "flops_recompute",
    "train_seconds",
    "reward_seconds",
    "eval_seconds",
    "log_seconds",
    "wall_seconds",
    "device_seconds",
    "peak_memory_bytes",
    "eval_queries",
    "eval_nfe",
)
"""What the meter counts at every point of a curve: one column each."""

BUDGET_SECONDS = "budget_seconds"
"""What a budget in seconds counts: training and its rewards. The meter keeps the two apart; validation adds them up."""

PEAK_MEMORY = "peak_memory_bytes"
"""The one axis that does not accumulate, so nothing is interpolated, divided or spent on it."""

SECONDS = (*(axis for axis in CURVE_AXES if axis.endswith("_seconds")), BUDGET_SECONDS)
MACHINES_OWN = (*SECONDS, PEAK_MEMORY)
"""Axes that belong to a machine: two kinds of machine never give the same numbers."""

AXIS_WORDS = {
    "updates": "optimiser updates",
    "nfe": "denoiser evaluations",
    "flops": "FLOPs",
    "train_seconds": "training time",
    BUDGET_SECONDS: "training and reward time",
    "wall_seconds": "wall time",
    "eval_seconds": "evaluation time",
    "device_seconds": "device time",
    PEAK_MEMORY: "peak memory",
}
"""Axes whose words are not their name."""

# Which axes a figure or a table shows.
FIGURE_AXES = ("steps", "reward_queries", "nfe", "flops", "train_seconds", "device_seconds")
EFFICIENCY_AXES = (*FIGURE_AXES, PEAK_MEMORY)
TRIAL_AXES = (*FIGURE_AXES, "eval_seconds", PEAK_MEMORY)
ABLATION_AXES = ("reward_queries", "flops", PEAK_MEMORY)
PARITY_AXES = ("reward_queries", "nfe", "flops", "train_seconds", PEAK_MEMORY)
TUNING_AXES = ("reward_queries", "nfe", "flops", "device_seconds")
GATE_AXES = ("nfe", "flops", PEAK_MEMORY, "train_seconds")
HEADLINE_AXES = ("nfe", "flops", "train_seconds")

SPLITS = ("train", "heldout")
SPLIT_WORDS = {"train": "training prompts", "heldout": "held-out prompts"}
TRAINING_SAMPLER_REWARD = "training_sampler_reward"
"""The reward under the sampler that a method trains with, at the first and the last point of its curve."""
METRICS = ("reward", "gold", "diversity", "drift", TRAINING_SAMPLER_REWARD)
"""Also reward/NAME, for rewards that were not optimised."""
OTHER_REWARD = "reward/"

DONE = "done"
GOING = ("planned", "running")
BROKEN = ("failed", "diverged", "interrupted")
"""Statuses of trials in which something went wrong."""
STOPPED = (*BROKEN, "skipped", "pruned")
"""Statuses of trials that stopped without a final value; skipped and pruned ones were meant to."""

STATUSES = (*GOING, DONE, *STOPPED)

UNTRAINED = "untrained"
"""The family of the method that is the model as it came."""
SELECTION = "selection"
"""The family of methods that train nothing and choose among samples."""


def is_metric(name: str) -> bool:
    """Whether a curve may have values under this name."""
    return name in METRICS or (name.startswith(OTHER_REWARD) and len(name) > len(OTHER_REWARD))


def axis_words(axis: str) -> str:
    """`reward_queries` -> "reward queries"."""
    return AXIS_WORDS.get(axis, axis.replace("_", " "))


def budget_column(axis: str) -> str:
    """The column that a budget on `axis` is counted in."""
    return BUDGET_SECONDS if axis == "seconds" else axis
