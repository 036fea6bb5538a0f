"""The loop of one trial, from its first evaluation to its last, which every executor runs.

The loop draws prompts, lets the method take a step, evaluates at fixed amounts of the budget, appends a point to the
curve and saves a checkpoint. The point is written before the checkpoint, and a resumed trial cuts the curve back to its
checkpoint, so that a trial whose process is killed at any time continues to bitwise the same curve.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.build.objects import (
    for_all_workers,
    optimiser_of,
    policy_of,
    quieten,
    rewards_of,
    sampler_settings,
    set_arithmetic,
)
from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.errors import Diverged
from bench.plan.budget import affordable_prompts
from bench.run.evaluation import Evaluation, Evaluator
from bench.run.repeatable import unrepeatable
from bench.run.scores import metered, not_finite_metrics, scores_of
from bench.stopping import check
from bench.store.null_folder import NullFolder
from bench.store.records import Point
from bench.store.trial_folder import TrialFolder
from bench.sweep.prompts import spread
from methods.base import Method, Optimiser, SamplingMethod, StepMetrics
from methods.optimiser import Averaging
from models.adapter import MovingAverage
from models.ledger import spent
from models.meter import Meter, return_freed_memory
from models.noise import SeedStream
from models.workers import Workers
from rewards.base import features

PICTURES_PER_SPLIT = 8
"""Prompts of each split whose first image is saved at every point; they are spread evenly over the split."""

REPEAT_IMAGES = 2
"""Images that a user's own reward scores twice more at the trial's end, to check that its scores repeat."""

Observer = Callable[[Point], None]
"""Function that is called with each point of the curve once the point's checkpoint is saved.

A resumed trial first calls it with the points that it has already.
"""


def run_trial(
    trial: Trial, folder: TrialFolder, workers: Workers | None = None, observe: Observer | None = None
) -> None:
    """Runs or resumes `trial` and writes its results to `folder`.

    The caller holds the folder's lock and has set torch's threads. Each worker of a trial calls this function.

    Raises:
        Diverged: images, a loss or a gradient are NaN or infinite; the last good checkpoint stays.
        RewardError: the optimised reward raised an exception, or its scores of finite images are NaN or infinite.
    """
    quieten()
    return_freed_memory()
    loop = TrialLoop(trial, folder, workers, observe)
    loop.resume_or_begin()
    while loop.step():
        pass
    loop.finish()


class TrialLoop:
    """The state of a trial between its steps, and the operations of the loop."""

    def __init__(
        self, trial: Trial, folder: TrialFolder, workers: Workers | None = None, observe: Observer | None = None
    ):
        self.trial, self.workers = trial, workers or Workers()
        self.observe = observe
        self.folder = folder if self.workers.first else NullFolder()
        device = "cuda" if trial.gpus > 0 and torch.cuda.is_available() else "cpu"
        set_arithmetic(trial.precision)
        self.meter = Meter(device, self.workers)
        self.seeds = SeedStream(trial.seed)
        self.policy = policy_of(trial, self.meter, self.workers, device)
        rewards = self.rewards = rewards_of(trial, device)
        self.method_class = load_method(trial.reference)
        self.settings = for_all_workers(self.method_class.Settings(**trial.settings), self.workers)
        self.optimiser = optimiser_of(trial, self.policy, self.settings, self.workers)
        self.average: MovingAverage | None = None
        optimiser: Optimiser | None = self.optimiser
        if self.optimiser and trial.evaluate.average is not None:
            self.average = MovingAverage(self.policy.snapshot())
            optimiser = Averaging(self.optimiser, self.policy, self.average, trial.evaluate.average)
        self.method: Method = self.method_class(
            self.settings,
            self.policy,
            metered(rewards["reward"], self.meter, self.workers, trial.reward.label, trial.seed),
            optimiser,  # type: ignore[arg-type]  # None for a sampling method
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
        self.best = -math.inf  # reward of the best point so far
        self.drawn = 0  # prompts drawn so far
        self.latest: float | None = None
        self.recent: list[StepMetrics] = []
        self.latest_images: list[tuple[tuple[str, str], Tensor]] = []  # ((split, prompt), image `[3, H, W]`)

    # -- the loop -------------------------------------------------------------------------------------------

    def resume_or_begin(self) -> None:
        """Continues from the last good checkpoint, or evaluates the untrained policy."""
        state = self.workers.agree(self.folder.load_checkpoint())
        self.point = state["point"] if state else -1
        self.folder.cut(self.point)
        if state is None:
            self.encode_prompts()
            self.evaluate(outermost=True)
            return
        with self.meter.paused():  # the first attempt has billed it
            self.encode_prompts()
        self.policy.load_state_dict(state["policy"])
        self.method.load_state_dict(state["method"])
        if self.optimiser is not None:
            self.optimiser.load_state_dict(state["optimiser"])
        self.meter.load_state_dict(state["meter"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.drawn, self.latest, self.best = state["drawn"], state["latest"], state.get("best", -math.inf)
        if self.observe is not None:
            for point in self.folder.read_curve():
                self.observe(point)

    def step(self) -> bool:
        """Takes a step of the method, and evaluates if that is due; returns False once the budget is spent."""
        book = self.axes()
        wanted = self.affordable(book)
        if wanted == 0:
            return False
        with self.meter.phase("train"):
            if isinstance(self.method, SamplingMethod):
                metrics = self.method.select(self.evaluator.rows("train"))
            else:
                metrics = self.method.step(self.draw_prompts(wanted))
        check()  # the numbers of a step in which a request to stop was swallowed may differ
        self.meter.ledger.steps += 1
        self.meter.ledger.updates += metrics.updates
        self.recent.append(metrics)
        check_finite(metrics, self.meter.ledger.steps)
        axis, every = self.trial.budget.axis, self.trial.evaluate.every
        now = self.axes()
        before, after = spent(axis, book), spent(axis, now)
        self.folder.heartbeat(progress=min(1.0, after / self.trial.budget.limit), latest=self.latest)
        last = self.affordable(now) == 0
        shown = self.method.shown if isinstance(self.method, SamplingMethod) else ()
        if last or after // every > before // every or self.meter.ledger.steps in shown:
            self.evaluate(last)
        return not last

    def finish(self) -> None:
        """Evaluates the steps since the last evaluation, checks that rewards repeat, and writes the adapter."""
        if self.recent:
            self.evaluate(outermost=True)
        self.folder.heartbeat(progress=1.0, latest=self.latest)
        if self.latest_images:
            self.warn_unrepeatable()
        if self.method.trains:
            self.save_adapter(self.folder.adapter)

    def affordable(self, book: dict[str, int | float]) -> int:
        """The number of prompts that the next step may have within the budget; 0 if it affords none.

        Args:
            book: what has been spent, by axis.
        """
        evaluated, training = len(self.evaluator.rows("train")), len(self.trial.prompts_train)
        return affordable_prompts(
            self.method_class, self.settings, self.policy.sampler, self.trial.budget, book, evaluated, training
        )

    def axes(self) -> dict[str, int | float]:
        """The meter's axes on the first worker, so that all workers decide alike when an evaluation is due."""
        return self.workers.agree(self.meter.ledger.as_axes(self.workers.size))

    def encode_prompts(self) -> None:
        """Encodes the training prompts, which is billed once in a trial, however often the trial is resumed."""
        with self.meter.phase("train"):
            self.policy.encode([*self.trial.prompts_train, ""])

    def draw_prompts(self, count: int) -> list[str]:
        """The next `count` training prompts; each epoch has its own random order, from the trial's seed."""
        prompts = self.trial.prompts_train
        drawn = []
        for position in range(self.drawn, self.drawn + count):
            epoch, index = divmod(position, len(prompts))
            drawn.append(prompts[self.seeds.permutation("prompts", epoch, len(prompts))[index]])
        self.drawn += count
        return drawn

    # -- a point of the curve -------------------------------------------------------------------------------

    def evaluate(self, outermost: bool = False) -> None:
        """Evaluates the policy, appends a point to the curve, and saves a checkpoint.

        Args:
            outermost: whether this is the first or the last point of the curve. Where the method trains with another
                sampler than that of evaluation, the reward under the method's own is evaluated there too, so that a
                gain which shows under one of the two only is not overlooked.
        """
        self.point += 1
        sample = self.method.sample if isinstance(self.method, SamplingMethod) else None
        with self.evaluated_adapter(), self.policy.scaled(self.trial.evaluate.scale):
            own = self.policy.sampler if self.method.trains and self.policy.sampler != self.evaluator.sampler else None
            trained = self.meter.ledger.updates > 0
            evaluation = self.evaluator(sample, trained, training_sampler=own if outermost else None)
        check()
        self.meter.ledger.peak_memory_bytes = max(self.workers.each(self.meter.read_peak_memory()))
        with self.meter.phase("log"):
            self.folder.write_evaluation(evaluation.rows.assign(point=self.point))
            self.save_pictures(evaluation)
        self.latest_images = list(evaluation.pictures.items())[:REPEAT_IMAGES]
        axes = self.axes()
        self.latest = evaluation.values["train"]["reward"]
        self.folder.append_point(self.point, axes, evaluation.values, training_summary(self.recent))
        for metric, what in not_finite_metrics(evaluation.rows, self.trial).items():
            self.folder.warn(metric, self.point, f"{what}, at point {self.point}; no mean is taken over such values")
        for topic, what in {topic: what for step in self.recent for topic, what in step.warnings.items()}.items():
            self.folder.warn(topic, self.point, f"{what} (until point {self.point})")
        self.recent = []
        self.keep_adapter(self.latest)
        with self.meter.phase("log"):
            self.folder.save_checkpoint(self.state())  # collective: every worker holds a shard
        if self.observe is not None:
            self.observe(Point(point=self.point, axes=axes, values=evaluation.values))

    def evaluated_adapter(self) -> AbstractContextManager[None]:
        """The policy has the weights that are evaluated inside the block: the trained ones, or their average."""
        return self.policy.using(self.average.weights) if self.average else nullcontext()

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter that is evaluated, at its whole scale."""
        with self.evaluated_adapter():
            self.policy.save_adapter(folder)

    def keep_adapter(self, reward: float) -> None:
        """Writes the adapter of this point, whose reward is `reward`, if the sweep keeps it."""
        better, keep = reward > self.best, self.trial.keep
        if better:
            self.best = reward
        if not self.method.trains or keep == "last" or (keep == "best" and not better):
            return
        with self.meter.phase("log"):
            self.save_adapter(self.folder.kept_adapter(self.point, only=keep == "best"))

    def save_pictures(self, evaluation: Evaluation) -> None:
        """Saves the first image of `PICTURES_PER_SPLIT` prompts of each split."""
        for split, prompts in self.trial.evaluated.items():
            for prompt in spread(prompts, PICTURES_PER_SPLIT):
                pixels = evaluation.pictures[split, prompt].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                self.folder.save_picture(self.point, split, prompt, pixels)

    def warn_unrepeatable(self) -> None:
        """Stores a warning for each of the user's own rewards whose scores do not repeat.

        It runs after the last evaluation, because the extra calls change the state of a reward that keeps one.
        """
        images, prompts = (
            torch.stack([image for _, image in self.latest_images]),
            [prompt for (_, prompt), _ in self.latest_images],
        )
        for name, what in unrepeatable(self.rewards, images, prompts).items():
            self.folder.warn(f"repeat/{name}", self.point, what)

    def state(self) -> dict[str, Any]:
        """The checkpoint from which the trial can be resumed, as plain values and tensors."""
        return {
            "policy": self.policy.state_dict(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser else {},
            "meter": self.meter.state_dict(),
            "point": self.point,
            "drawn": self.drawn,
            "latest": self.latest,
            "best": self.best,
            **({"average": self.average.state_dict()} if self.average else {}),
        }


def check_finite(metrics: StepMetrics, step: int) -> None:
    """Raises `Diverged` if a step's loss, reward or gradient norm is not finite."""
    for name in ("loss", "reward", "gradient_norm"):
        value = getattr(metrics, name)
        if not math.isfinite(value):
            raise Diverged(f"the {name.replace('_', ' ')} is {value} at step {step}")


def training_summary(steps: Sequence[StepMetrics]) -> dict[str, float]:
    """The means of the steps' metrics, and the last step's `latest`; `steps` are those since the last point."""
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
