"""A report's contents in reading order, independent of the file format."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from reports import headline, notices
from reports.figures import curves, goodhart, interactive, pictures, svg
from reports.figures.styles import Style, styles
from reports.frame import untrained_variants
from reports.meta import Meta
from reports.names import DONE, FIGURE_AXES, axis_words
from reports.notices import Notice
from reports.statistics import gains
from reports.tables import ablation, costs, parity, rewards, samplers, selection, tuning
from reports.tables.table import Table, ranked_variants

MAIN_PANELS = 3
MOST_DRAWN = 40
"""Most methods on a figure: the best ranked and the untrained ones. An eye does not separate more lines."""


@dataclass(frozen=True)
class Document:
    """The report on trials whose numbers can be compared.

    Attributes:
        commands: commands that run the unfinished trials again.
        axes: words for the axes that the page's curves can be switched to, the budget's first.
        panels: titles of the panels; the page opens with the first `main_panels`.
        curves_json: the data of the page's curves.
        static: SVG figures for paper and for browsers without scripts.
        goodhart: SVG figures of over-optimisation.
        turned: whether these figures mark where gold was highest.
        trained: the variants that train.
        drawings: file name without ending -> the function that draws the figure.
        others: documents on other trials, whose numbers cannot be compared with these.
        above: warnings on all of these documents, shown first.
    """

    meta: Meta
    answer: str
    notices: tuple[Notice, ...]
    ranking: Table | None
    efficiency: tuple[Table, ...]
    rewards: Table | None
    samplers: Table | None
    paired: Table | None
    ablations: tuple[Table, ...]
    selection: tuple[Table, ...]
    parity: tuple[Table, ...]
    tuning: Table | None
    trials: Table
    commands: tuple[str, ...]
    axes: tuple[str, ...]
    panels: tuple[str, ...]
    main_panels: int
    curves_json: str
    static: tuple[str, ...]
    goodhart: tuple[str, ...]
    turned: bool
    sheet: pictures.Sheet | None
    styles: Mapping[str, Style]
    trained: tuple[str, ...]
    drawings: Mapping[str, Callable[[], Figure]]
    others: tuple["Document", ...] = ()
    above: tuple[Notice, ...] = ()

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """All tables in reading order."""
        found = [self.ranking, *self.efficiency, self.rewards, self.samplers, self.paired, *self.ablations]
        found += [*self.selection, *self.parity, self.tuning, self.trials]
        return tuple(table for table in found if table is not None)


def compose(
    frame: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    samples: Sequence[pictures.Picture],
    name: str = "f",
    share: float = 1.0,
    looks: Mapping[str, Style] | None = None,
) -> Document:
    """Computes a document from validated frames. Without any curve, the report consists of the trials alone.

    Args:
        name: the prefix of ids on the page, unique among the documents of a page.
        share: of the page's room for pictures, this document's share.
        looks: variant -> style, where several documents share their styles.
    """
    measured = not frame.empty
    untrained = untrained_variants(frame) if measured else set()
    order = [variant for variant, _ in ranked_variants(frame, trials, meta)]
    gained = gains.gains(frame, evaluation) if measured else {}
    found = costs.targets(frame, meta, gained) if measured else []
    tabled = (costs.efficiency(frame, trials, meta, target, gained) for target in found)
    by_target = [table for table in tabled if table is not None]
    by_target[:-1] = [replace(table, note="") for table in by_target[:-1]]  # the last table's note serves all of them
    lines = {target.of or "target": target.value for target in found}
    pairs = curves.panels(frame) if measured else []
    drawn = [v for v in order if v in untrained or v in order[:MOST_DRAWN]]
    chosen = _ordered(looks or styles(frame, meta.methods), drawn) if measured else {}
    curved = frame[frame["variant"].isin(drawn)] if len(drawn) < len(order) else frame
    axes = axes_to_draw(frame, meta) if measured else []
    main = min(MAIN_PANELS, len(pairs))
    goodharts = goodhart.pairs(curved) if measured else []
    turns = goodhart.turned(curved, meta) if goodharts else {}
    sheet = pictures.arrange(samples, order, untrained, share)
    lost = notices.unreadable(sheet.unreadable if sheet else ())
    return Document(
        meta=meta,
        answer=headline.headline(frame, trials, meta, evaluation, gained),
        notices=(*notices.notices(frame, evaluation, trials, meta), *lost, *_undrawn(order, drawn)),
        ranking=rewards.ranking(frame, trials, meta) if measured else None,
        efficiency=tuple(by_target),
        rewards=rewards.rewards(frame, trials, meta) if measured else None,
        samplers=samplers.table(frame, trials, meta) if measured else None,
        paired=rewards.paired(frame, evaluation, trials, meta) if measured else None,
        ablations=tuple(ablation.tables(frame, trials, meta)),
        selection=tuple(selection.tables(frame, meta)),
        parity=tuple(parity.tables(frame, trials, meta)),
        tuning=tuning.table(meta),
        trials=costs.trials_table(frame, trials, meta),
        commands=_commands(trials, meta),
        axes=tuple(axis_words(axis) for axis in axes),
        panels=tuple(curves.panel_title(metric, split, meta) for metric, split in pairs),
        main_panels=main,
        curves_json=(
            interactive.as_json(interactive.payload(curved, axes, pairs, meta, chosen, lines, main)) if measured else ""
        ),
        static=_static(curved, axes, pairs, meta, chosen, lines, name),
        goodhart=tuple(
            svg.page_svg(
                goodhart.figure(curved, [pair], meta, chosen, turns), f"{name}-g-{i}", f"{pair[1]} against {pair[0]}"
            )
            for i, pair in enumerate(goodharts)
        ),
        turned=bool(turns),
        sheet=sheet,
        styles=chosen,
        trained=tuple(variant for variant in chosen if variant not in untrained),
        drawings=_drawings(curved, axes, pairs, goodharts, turns, meta, chosen, lines),
    )


def _undrawn(order: Sequence[str], drawn: Sequence[str]) -> Iterable[notices.Notice]:
    if len(drawn) < len(order):
        text = (
            f"Curves are drawn of {len(drawn)} of {len(order):,} methods: the best ranked and those that train nothing."
        )
        yield notices.Notice("caution", f"{text} The tables have all.")


def axes_to_draw(frame: pd.DataFrame, meta: Meta) -> list[str]:
    """The axes that the run logged, the budget's first."""
    logged = [axis for axis in FIGURE_AXES if frame[axis].notna().any()]
    return list(dict.fromkeys([meta.budget_column, *logged]))


def _static(
    frame: pd.DataFrame,
    axes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    lines: Mapping[str, float],
    name: str,
) -> tuple[str, ...]:
    """Every panel against the budget's axis, then the training reward against each other axis."""
    wanted = [(axis, pair) for axis in axes[:1] for pair in pairs] + [(axis, pair) for axis in axes[1:]
                                                                     for pair in pairs[:1]]  # fmt: skip
    parts = {pair: frame[(frame["metric"] == pair[0]) & (frame["split"] == pair[1])] for pair in pairs}
    found = []
    for number, (axis, (metric, split)) in enumerate(wanted):
        label = f"{curves.panel_title(metric, split, meta)} against {axis_words(axis)}"
        figure = curves.panel(parts[metric, split], axis, metric, split, meta, chosen, lines)
        found.append(svg.page_svg(figure, f"{name}-{number}", label))
    return tuple(found)


def _drawings(
    frame: pd.DataFrame,
    axes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    goodharts: Sequence[tuple[str, str]],
    turns: Mapping[str, float],
    meta: Meta,
    chosen: Mapping[str, Style],
    lines: Mapping[str, float],
) -> dict[str, Callable[[], Figure]]:
    found: dict[str, Callable[[], Figure]] = {
        f"curves-{axis.replace('_', '-')}": partial(curves.strip, frame, axis, pairs[:MAIN_PANELS], meta, chosen, lines)
        for axis in axes
    }
    if goodharts:
        found["over-optimisation"] = partial(goodhart.figure, frame, goodharts, meta, chosen, turns, paper=True)
    return found


def _commands(trials: pd.DataFrame, meta: Meta) -> tuple[str, ...]:
    rows = trials[trials["status"] != DONE].to_dict("records")
    return tuple(dict.fromkeys(command for row in rows if (command := costs.command_of(row, meta))))


def _ordered(found: Mapping[str, Style], order: Sequence[str]) -> dict[str, Style]:
    return {variant: found[variant] for variant in order if variant in found}
