"""The answer's first sentence: whether the pictures became better, as far as gold, other rewards and diversity tell."""

import pandas as pd

from reports.formatting import measured
from reports.frame import metrics_in
from reports.meta import Meta
from reports.names import OTHER_REWARD
from reports.statistics.overoptimisation import Course, collapsed, courses, far_off


def opening(curves: pd.DataFrame, variant: str, meta: Meta, better: bool) -> str:
    """One sentence on a variant whose reward clearly rose: what gold, or else other metrics, did at the same time.

    Args:
        better: whether the variant's gold clearly rose.
    """
    gold = courses(curves, meta.budget_column).get(variant)
    fell, poorer = _others_fell(curves, variant, meta), _poorer(curves, variant, meta.budget_column)
    if gold is None:
        lost = f", {poorer}" if poorer else f", but {fell}" if fell else ""
        return f"Higher reward{lost or '; nothing that was measured says whether the pictures are better'}."
    if gold.mostly_fell:
        return f"Higher reward, worse pictures: gold is {_highest(curves, gold, meta)}."
    rose = better and gold.rose == gold.seeds
    if fell or poorer:
        return f"Higher reward{' and gold' if rose else ''}, but {fell or poorer}."
    turned = f": gold is {_highest(curves, gold, meta)}" if gold.turned == gold.seeds else ""
    pictures_words = "and better pictures by gold" if rose else "with pictures that gold does not call clearly better"
    return f"Higher reward {pictures_words}{turned}."


def _others_fell(curves: pd.DataFrame, variant: str, meta: Meta) -> str:
    """A clause on the first other reward that fell; "" where none did."""
    for metric in metrics_in(curves):
        if metric.startswith(OTHER_REWARD):
            other = courses(curves, meta.budget_column, metric).get(variant)
            if other is not None and other.mostly_fell:
                return f"{meta.metric_words(metric)} fell from {measured(other.start)} to {measured(other.end)}"
    return ""


def _poorer(curves: pd.DataFrame, variant: str, axis: str) -> str:
    """A clause on collapsed diversity, else on a large drift; "" where neither is the case."""
    if (course := collapsed(curves, axis).get(variant)) is not None:
        return f"less diverse pictures: diversity fell from {measured(course.start)} to {measured(course.end)}"
    if (course := far_off(curves, axis).get(variant)) is not None:
        return f"pictures far from the untrained model’s: drift is {measured(course.end)}"
    return ""


def _highest(curves: pd.DataFrame, course: Course, meta: Meta) -> str:
    """ "highest at 0 to 25 % of the budget and falls after": where gold was highest in the first and the last seed."""
    own = curves.loc[curves["variant"] == course.variant, meta.budget_column]
    whole = meta.budget_limit or float(own.max())
    low, high = (f"{100 * min(1.0, peak / whole):.0f}" for peak in course.peaks)
    if high == "0":
        return "highest before training and falls after"
    return f"highest at {low if low == high else f'{low} to {high}'} % of the budget and falls after"
