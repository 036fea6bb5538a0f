"""The presentation of a run's methods in reports: written to `plan.json`, or looked up for a run without it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from bench.build.plugins import presentation_of
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from methods.presentation import Presentation
from reports.meta import MethodFacts


def described(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """Method -> its presentation, for `plan.json`: values that differ from the default; none if it cannot be loaded."""
    references = {trial.method: trial.reference for trial in trials}
    return {name: _plain(_known(reference)) for name, reference in references.items()}


def facts_of(written: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, MethodFacts]:
    """Method -> its presentation, as reports take it.

    Args:
        written: `methods` of a run's `plan.json`. In a run that was planned without presentations, each method is
            looked up by its name; a method that cannot be loaded gets the default.
        names: the methods of the run.
    """
    return {name: MethodFacts(**(written[name] if name in written else _plain(_known(name)))) for name in names}


def _known(reference: str) -> Presentation:
    try:
        return presentation_of(reference)
    except BenchError:  # a run may name files and packages that are no longer on this machine
        return Presentation()


def _plain(presentation: Presentation) -> dict[str, Any]:
    empty = asdict(Presentation())
    return {name: value for name, value in asdict(presentation).items() if value != empty[name]}
