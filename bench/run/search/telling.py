"""How Ray Tune hears of a trial's points while it runs, and may stop it at one."""

import math
from collections.abc import Callable
from typing import Any

from bench.build.trial_spec import Trial, spent
from bench.plan.budget import affords_a_step
from bench.run.search.choosing import value_of
from bench.store.records import Point


class Teller:
    """Tells Tune of a trial's points, each once; it does not return from one at which Tune stops the trial.

    A point from which the trial cannot go on is not told: it is at its end there, and shall come to it.

    Args:
        trial: whose points they are.
        metric: `search.metric`.
        keep: makes the checkpoint that Tune is given with a point, for a scheduler that needs one.
        told: the number of the last point that Tune has heard of, or need not.
    """

    def __init__(self, trial: Trial, metric: str, keep: Callable[[], Any] | None = None, told: int = -1):
        self.trial, self.metric, self.keep, self.told = trial, metric, keep, told

    def __call__(self, point: Point) -> None:
        from ray import tune

        value = value_of(point, self.metric)
        if point.point <= self.told or not math.isfinite(value) or not affords_a_step(self.trial, point.axes):
            return
        self.told = point.point
        gone = spent(self.trial.budget.axis, point.axes)
        tune.report({"spent": gone, "value": value}, checkpoint=self.keep() if self.keep else None)
