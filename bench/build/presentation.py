"""How methods are shown in reports: written into `plan.json`, read from there, looked up for runs that lack it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from bench.build.plugins import presentation_of
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from methods.presentation import Presentation
from reports.meta import MethodFacts


def described(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """Method -> its presentation without defaults, for `plan.json`; empty for a method that cannot be loaded."""
    references = {trial.method: trial.reference for trial in trials}
    return {name: _plain(_known(reference)) for name, reference in references.items()}


def facts_of(about: Mapping[str, Any]) -> dict[str, MethodFacts]:
    """Method -> what reports need to know of it.

    Args:
        about: a run's `plan.json`. Of runs that do not say, as those of older versions, built-in methods are looked up
            others have none.
    """
    written = about.get("methods", {})
    names = dict.fromkeys(row["method"] for row in about["trials"])
    return {name: MethodFacts(**(written[name] if name in written else _plain(_known(name)))) for name in names}


def _known(reference: str) -> Presentation:
    try:
        return presentation_of(reference)
    except BenchError:  # a run may name files and packages that are not here any more
        return Presentation()


def _plain(presentation: Presentation) -> dict[str, Any]:
    empty = asdict(Presentation())
    return {name: value for name, value in asdict(presentation).items() if value != empty[name]}
