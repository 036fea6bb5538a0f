"""The table of rewards under the samplers that methods train with, beside those under the sampler of evaluation."""

import numpy as np
import pandas as pd

from reports.frame import finished, select
from reports.meta import Meta
from reports.names import TRAINING_SAMPLER_REWARD
from reports.statistics import comparison
from reports.tables.table import Cell, Table, ranked_variants, seed_counts, spread_note, value_cell

SAMPLERS = {TRAINING_SAMPLER_REWARD: "training sampler", "reward": "evaluation"}


def table(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table | None:
    """The table, a row for each variant that trains with another sampler than that of evaluation.

    None if no finished trial does, or if its run is older than the metric.
    """
    done = finished(curves)
    own = set(done.loc[done["metric"] == TRAINING_SAMPLER_REWARD, "trial"])
    done = done[done["trial"].isin(own)]
    if done.empty:
        return None
    ends = {metric: _ends(done, metric) for metric in SAMPLERS}
    rows: list[dict[str, str | Cell]] = []
    present = set(done["variant"])
    for variant in (name for name, _ in ranked_variants(curves, trials, meta) if name in present):
        row: dict[str, str | Cell] = {"method": variant}
        for metric, words in SAMPLERS.items():
            found = ends[metric][ends[metric]["variant"] == variant]
            for column in ("base model", "trained", "change"):
                values = found[column].to_numpy(dtype=np.float64)
                row[f"{words}\n{column}"] = value_cell(comparison.summarise(values), signed=column == "change")
        rows.append(row)
    spread = spread_note(count for count, _ in seed_counts(trials).values())
    note = (
        "The reward on training prompts at the first and the last point, on the same noise: under the sampler with "
        "which the method draws its own images in training, and under that of evaluation, which ranks. A gain under "
        f"its own alone is one that evaluation does not show. {spread}"
    )
    return Table.of("Rewards under the training sampler", rows, note)


def _ends(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The first and last value of each trial, and their difference."""
    values = select(curves, metric, "train").groupby(["trial", "variant"], sort=False)["value"]
    ends = pd.DataFrame({"base model": values.first(skipna=False), "trained": values.last(skipna=False)})
    return ends.assign(change=ends["trained"] - ends["base model"]).reset_index()
