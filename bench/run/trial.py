"""One trial from its first evaluation to its last: the loop that every executor runs.

Draw prompts, let the method step, meter, evaluate at fixed amounts of the budget, append to the curve, checkpoint.
The curve's point is written before the checkpoint, and a resumed trial cuts the curve back to its checkpoint, so a
process killed anywhere continues to bitwise the same curve.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.build.objects import (
    exact_arithmetic,
    for_all_workers,
    optimiser_of,
    policy_of,
    quieten,
    rewards_of,
    sampler_settings,
)
from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.errors import Diverged
from bench.plan.budget import affordable_prompts
from bench.run.evaluation import Evaluation, Evaluator
from bench.run.repeatable import unrepeatable
from bench.run.scores import metered, odd_columns, scores_of
from bench.stopping import check
from bench.store.null_folder import NullFolder
from bench.store.records import Point
from bench.store.trial_folder import TrialFolder
from bench.sweep.prompts import spread
from methods.base import Method, SamplingMethod, StepMetrics
from models.ledger import spent
from models.meter import Meter, return_freed_memory
from models.noise import SeedStream
from models.workers import Workers
from rewards.base import features

PICTURES_PER_SPLIT = 8
"""Prompts of a split whose first image is kept at every point, spread evenly over the split."""

ASKED_AGAIN = 2
"""Images that rewards of one's own score twice more, to see whether they repeat."""

Observer = Callable[[Point], None]
"""Is told each point of the curve, as `curve.jsonl` has it, once a checkpoint of it is kept: first those that a resumed
trial has already.
"""


def run_trial(
    trial: Trial, folder: TrialFolder, workers: Workers | None = None, observe: Observer | None = None
) -> None:
    """Runs or resumes `trial`, writing everything to `folder`; the caller holds its lock and has set the threads.

    Where there are many workers, each of them calls this.

    Raises:
        Diverged: images, a loss or a gradient are NaN or infinite; the last good checkpoint stays.
        RewardError: the optimised reward raised, or gave scores that are NaN or infinite for images that are not.
    """
    quieten()
    return_freed_memory()
    loop = TrialLoop(trial, folder, workers, observe)
    loop.resume_or_begin()
    while loop.step():
        pass
    loop.finish()


class TrialLoop:
    """A trial's state between steps."""

    def __init__(
        self, trial: Trial, folder: TrialFolder, workers: Workers | None = None, observe: Observer | None = None
    ):
        self.trial, self.workers = trial, workers or Workers()
        self.observe = observe
        self.folder = folder if self.workers.first else NullFolder()
        device = "cuda" if trial.gpus > 0 and torch.cuda.is_available() else "cpu"
        exact_arithmetic()
        self.meter = Meter(device, self.workers)
        self.seeds = SeedStream(trial.seed)
        self.policy = policy_of(trial, self.meter, self.workers, device)
        rewards = self.rewards = rewards_of(trial, device)
        self.method_class = load_method(trial.reference)
        self.settings = for_all_workers(self.method_class.Settings(**trial.settings), self.workers)
        self.optimiser = optimiser_of(trial, self.policy, self.settings, self.workers)
        self.method: Method = self.method_class(
            self.settings,
            self.policy,
            metered(rewards["reward"], self.meter, self.workers, trial.reward.label, trial.seed),
            self.optimiser,  # type: ignore[arg-type]  # a sampling method has no use for one
            self.seeds,
        )
        self.evaluator = Evaluator(
            self.policy,
            sampler_settings(trial.evaluate.sampler),
            trial.evaluated,
            trial.evaluate.images,
            trial.evaluate.seed,
            partial(scores_of, rewards, self.meter, self.workers, trial.reward.label, trial.evaluate.seed),
            embed=next((partial(features, r) for r in reversed(rewards.values()) if hasattr(r, "embed")), None),
        )
        self.point = -1
        self.drawn = 0  # prompts drawn so far
        self.latest: float | None = None
        self.recent: list[StepMetrics] = []
        self.shown: list[tuple[tuple[str, str], Tensor]] = []  # (split, prompt) and an image of the latest point

    # -- the loop -------------------------------------------------------------------------------------------

    def resume_or_begin(self) -> None:
        """Continues from the last good checkpoint, or evaluates the untrained policy."""
        state = self.workers.agree(self.folder.load_checkpoint())
        self.point = state["point"] if state else -1
        self.folder.cut(self.point)
        if state is None:
            self.encode_prompts()
            self.evaluate()
            return
        with self.meter.paused():  # it is billed already
            self.encode_prompts()
        self.policy.load_state_dict(state["policy"])
        self.method.load_state_dict(state["method"])
        if self.optimiser is not None:
            self.optimiser.load_state_dict(state["optimiser"])
        self.meter.load_state_dict(state["meter"])
        self.drawn, self.latest = state["drawn"], state["latest"]
        if self.observe is not None:
            for point in self.folder.read_curve():
                self.observe(point)

    def step(self) -> bool:
        """One step of the method, and an evaluation where one is due. False when the budget is spent."""
        book, evaluated = self.axes(), self.evaluator.rows("train")
        sampler, budget = self.policy.sampler, self.trial.budget
        training = len(self.trial.prompts_train)
        wanted = affordable_prompts(self.method_class, self.settings, sampler, budget, book, len(evaluated), training)
        if wanted == 0:
            return False
        with self.meter.phase("train"):
            if isinstance(self.method, SamplingMethod):
                metrics = self.method.select(evaluated)
            else:
                metrics = self.method.step(self.draw_prompts(wanted))
        check()  # a step in which a stop was lost may have other numbers
        self.meter.ledger.steps += 1
        self.meter.ledger.updates += metrics.updates
        self.recent.append(metrics)
        check_finite(metrics, self.meter.ledger.steps)
        axis, every = self.trial.budget.axis, self.trial.evaluate.every
        before, after = spent(axis, book), spent(axis, self.axes())
        self.folder.heartbeat(progress=min(1.0, after / self.trial.budget.limit), latest=self.latest)
        if after // every > before // every:
            self.evaluate()
        return True

    def finish(self) -> None:
        """Evaluates what the last steps did, where no evaluation has seen it yet, and writes the adapter."""
        if self.recent:
            self.evaluate()
        self.folder.heartbeat(progress=1.0, latest=self.latest)
        if self.shown:
            self.ask_again()
        if self.method.trains:
            self.policy.save_adapter(self.folder.adapter)

    def axes(self) -> dict[str, int | float]:
        """The meter's, as the first worker's clock has them: what is due is decided by all alike."""
        return self.workers.agree(self.meter.ledger.as_axes(self.workers.size))

    def encode_prompts(self) -> None:
        """Encodes the training prompts, once in a trial's life, so that a resumed one spends the same."""
        with self.meter.phase("train"):
            self.policy.embed([*self.trial.prompts_train, ""])

    def draw_prompts(self, count: int) -> list[str]:
        """The next prompts of the training set: one random order an epoch, keyed by the trial's seed."""
        prompts = self.trial.prompts_train
        drawn = []
        for position in range(self.drawn, self.drawn + count):
            epoch, index = divmod(position, len(prompts))
            drawn.append(prompts[self.seeds.permutation("prompts", epoch, len(prompts))[index]])
        self.drawn += count
        return drawn

    # -- a point --------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Evaluates, appends a point to the curve, and checkpoints."""
        self.point += 1
        sample = self.method.sample if isinstance(self.method, SamplingMethod) else None
        evaluation = self.evaluator(sample, trained=self.meter.ledger.updates > 0)
        check()
        self.meter.ledger.peak_memory_bytes = max(self.workers.each(self.meter.read_peak_memory()))
        with self.meter.phase("log"):
            self.folder.write_evaluation(evaluation.rows.assign(point=self.point))
            self.save_pictures(evaluation)
        self.shown = list(evaluation.pictures.items())[:ASKED_AGAIN]
        axes = self.axes()
        self.latest = evaluation.values["train"]["reward"]
        self.folder.append_point(self.point, axes, evaluation.values, training_summary(self.recent))
        for metric, what in odd_columns(evaluation.rows, self.trial).items():
            self.folder.warn(metric, self.point, f"{what}, at point {self.point}; no mean is taken over such values")
        self.recent = []
        with self.meter.phase("log"):
            self.folder.save_checkpoint(self.state())  # collective: every worker has a share of it
        if self.observe is not None:
            self.observe(Point(point=self.point, axes=axes, values=evaluation.values))

    def save_pictures(self, evaluation: Evaluation) -> None:
        """Keeps the first image of some prompts, to look at."""
        for split, prompts in self.trial.evaluated.items():
            for prompt in spread(prompts, PICTURES_PER_SPLIT):
                pixels = evaluation.pictures[split, prompt].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                self.folder.save_picture(self.point, split, prompt, pixels)

    def ask_again(self) -> None:
        """Keeps with the trial which rewards of one's own do not repeat.

        Once all numbers are made: a reward that keeps state would train otherwise for having been asked, and what goes
        wrong in a call that no number comes from would be seen by nobody.
        """
        images, prompts = torch.stack([image for _, image in self.shown]), [prompt for (_, prompt), _ in self.shown]
        for name, what in unrepeatable(self.rewards, images, prompts).items():
            self.folder.warn(f"repeat/{name}", self.point, what)

    def state(self) -> dict[str, Any]:
        """Everything a resumed trial needs, as plain values and tensors."""
        return {
            "policy": self.policy.state_dict(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser else {},
            "meter": self.meter.state_dict(),
            "point": self.point,
            "drawn": self.drawn,
            "latest": self.latest,
        }


def check_finite(metrics: StepMetrics, step: int) -> None:
    """Raises `Diverged` if a step's numbers are not finite."""
    for name in ("loss", "reward", "gradient_norm"):
        value = getattr(metrics, name)
        if not math.isfinite(value):
            raise Diverged(f"the {name.replace('_', ' ')} is {value} at step {step}")


def training_summary(steps: Sequence[StepMetrics]) -> dict[str, float]:
    """Means over the steps since the last point, and what the last of them said of itself."""
    if not steps:
        return {}
    columns: dict[str, Callable[[StepMetrics], float]] = {
        "loss": lambda step: step.loss,
        "reward": lambda step: step.reward,
        "gradient_norm": lambda step: step.gradient_norm,
    }
    extra = {name: [step.extra[name] for step in steps if name in step.extra] for step in steps for name in step.extra}
    means = {name: list(map(column, steps)) for name, column in columns.items()} | extra
    return {name: sum(values) / len(values) for name, values in means.items()} | steps[-1].latest
