"""The trials of a sweep, as `bench run` plans them."""

from bench.build.trial_spec import Trial
from bench.plan.planner import Planner
from bench.sweep.load import LoadedSweep


def plan(loaded: LoadedSweep) -> list[Trial]:
    """All trials of the sweep: those of the first seed for every variant, then those of the next."""
    return Planner(loaded).trials()
