"""What a report holds, in reading order, before it is HTML or Markdown."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from reports import costs, curves, headline, notices, pictures, svg, tables
from reports.frame import DONE, axis_words, untrained_variants
from reports.meta import Meta
from reports.styles import Style, styles

FIGURE_AXES = ("steps", "reward_queries", "nfe", "flops", "train_seconds")
MAIN_PANELS = 3
MOST_DRAWN = 40
"""Methods on a figure, the best ranked and those that train nothing: no eye tells more lines apart."""


@dataclass(frozen=True)
class FigureSet:
    """The same panels against one axis."""

    axis: str
    words: str
    svgs: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    meta: Meta
    answer: str
    notices: tuple[notices.Notice, ...]
    ranking: tables.Table | None
    efficiency: tuple[tables.Table, ...]
    rewards: tables.Table | None
    paired: tables.Table | None
    trials: tables.Table
    commands: tuple[str, ...]  # what runs the unfinished trials again
    figures: tuple[FigureSet, ...]
    main_panels: int
    sheet: pictures.Sheet | None
    styles: Mapping[str, Style]
    files: Mapping[str, bytes]  # name -> PNG


def compose(
    frame: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    samples: Sequence[pictures.Picture],
) -> Document:
    """Everything computed once, from validated frames. With no curve at all, the trials alone are the report."""
    seen = not frame.empty
    order = [variant for variant, _ in tables.ranked_variants(frame, trials, meta)]
    found = costs.targets(frame, meta) if seen else []
    by_target = [t for t in (costs.efficiency(frame, trials, meta, target) for target in found) if t is not None]
    by_target[:-1] = [replace(table, note="") for table in by_target[:-1]]  # one note serves them all
    still = untrained_variants(frame) if seen else set()
    sheet = pictures.arrange(samples, order, still)
    lines = {target.of or "target": target.value for target in found}
    pairs = curves.panels(frame) if seen else []
    drawn = [v for v in order if v in still or v in order[:MOST_DRAWN]]
    chosen = _ordered(styles(frame), drawn) if seen else {}
    curved = frame[frame["variant"].isin(drawn)] if len(drawn) < len(order) else frame
    return Document(
        meta=meta,
        answer=headline.headline(frame, trials, meta),
        notices=(*notices.notices(frame, evaluation, trials, meta), *_undrawn(order, drawn)),
        ranking=tables.ranking(frame, trials, meta) if seen else None,
        efficiency=tuple(by_target),
        rewards=tables.rewards(frame, trials, meta) if seen else None,
        paired=tables.paired(frame, evaluation, trials, meta) if seen else None,
        trials=costs.trials_table(frame, trials, meta),
        commands=_commands(trials),
        figures=_figures(curved, pairs, meta, chosen, lines) if seen else (),
        main_panels=min(MAIN_PANELS, len(pairs)),
        sheet=sheet,
        styles=chosen,
        files=_files(curved, pairs, meta, chosen, lines, sheet) if seen else {},
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


def _figures(
    frame: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    lines: Mapping[str, float],
) -> tuple[FigureSet, ...]:
    parts = {pair: frame[(frame["metric"] == pair[0]) & (frame["split"] == pair[1])] for pair in pairs}
    sets = []
    for axis in axes_to_draw(frame, meta):
        svgs = []
        for number, (metric, split) in enumerate(pairs):
            label = f"{curves.panel_title(metric, split, meta)} against {axis_words(axis)}"
            figure = curves.panel(parts[metric, split], axis, metric, split, meta, chosen, lines)
            svgs.append(svg.page_svg(figure, f"f-{axis.replace('_', '-')}-{number}", label))
        sets.append(FigureSet(axis, axis_words(axis), tuple(svgs)))
    return tuple(sets)


def _files(
    frame: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    lines: Mapping[str, float],
    sheet: pictures.Sheet | None,
) -> dict[str, bytes]:
    files = {
        f"curves-{axis.replace('_', '-')}.png": curves.png(
            curves.strip(frame, axis, pairs[:MAIN_PANELS], meta, chosen, lines)
        )
        for axis in axes_to_draw(frame, meta)
    }
    if sheet is not None:
        files["pictures.png"] = pictures.png(pictures.final_grid(sheet))
    return files


def _commands(trials: pd.DataFrame) -> tuple[str, ...]:
    found = []
    for record in trials.loc[trials["status"] != DONE, "provenance"]:
        command = record.get("command") if isinstance(record, Mapping) else None
        if command:
            found.append(command if isinstance(command, str) else shlex.join(map(str, command)))
    return tuple(dict.fromkeys(found))


def _ordered(found: Mapping[str, Style], order: Sequence[str]) -> dict[str, Style]:
    return {variant: found[variant] for variant in order if variant in found}
