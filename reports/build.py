"""The entry point: frames in, files out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reports.choices import DEFAULT_FORMATS, FORMATS
from reports.document import Document, compose
from reports.figures.pictures import Picture
from reports.figures.styles import Style, styles
from reports.files import write_atomically
from reports.frame import no_curves, validate_curves, validate_evaluation, validate_trials, with_statuses
from reports.meta import Meta
from reports.notices import Notice, apart
from reports.writers import exports, printing
from reports.writers.markdown import to_markdown
from reports.writers.page import to_html


@dataclass(frozen=True)
class Part:
    """Trials whose numbers can be compared: the arguments of `build_report`."""

    curves: pd.DataFrame
    evaluation: pd.DataFrame
    trials: pd.DataFrame
    meta: Meta
    pictures: Sequence[Picture] = ()


def build_report(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    pictures: Sequence[Picture] = (),
    name: str = "f",
    share: float = 1.0,
    looks: Mapping[str, Style] | None = None,
) -> Document:
    """Checks the frames (see `frame.py`) and computes everything that a report shows; writes nothing.

    Args:
        name: what ids on the page begin with.
        share: of the page that its pictures may take.
        looks: variant -> how it is drawn, where that is settled for several documents.

    Raises:
        ValueError: where a frame breaks its schema, or where there is neither a curve nor a trial to report.
    """
    # With trials and no curve, every trial stopped before its first point: their causes are the report.
    bare = curves.empty and not trials.empty
    checked = no_curves() if bare else validate_curves(curves, meta.budget_column)
    trials = validate_trials(trials, checked)
    checked = checked if checked.empty else with_statuses(checked, trials)
    return compose(checked, validate_evaluation(evaluation), trials, meta, pictures, name, share, looks)


def build_together(parts: Sequence[Part], warnings: Sequence[str] = ()) -> Document:
    """One document of several parts whose numbers cannot be compared: the first, with the rest as its `others`.

    What their protocols differ in, and `warnings`, stand above everything else.
    """
    named = [part.trials.reindex(columns=["method", "variant"]).dropna() for part in parts]
    looks = styles(pd.concat(named, ignore_index=True))
    share = 1 / len(parts)
    documents = [
        build_report(part.curves, part.evaluation, part.trials, part.meta, part.pictures, f"f{i or ''}", share, looks)
        for i, part in enumerate(parts)
    ]
    first, *others = documents
    told = [*apart([part.meta for part in parts]), *(Notice("caution", text) for text in warnings)]
    return replace(first, above=tuple(told), others=tuple(others))


def write_document(document: Document, out: Path, formats: Iterable[str] = DEFAULT_FORMATS) -> list[Path]:
    """Writes what `build_report` computed, each file whole or not at all.

    `html`: report.html. `md`: report.md and the figures it links to. `csv`, `latex`: tables/*.csv, tables/*.tex. `png`,
    `svg`: figures of that kind. `pdf`: figures/*.pdf, and report.pdf, the page as a browser prints it.

    Returns:
        The files written, the reports first.

    Raises:
        ValueError: a format is unknown.
        printing.NoBrowserError: `pdf` is asked for and there is no browser to print with; all else is written.
    """
    wanted = list(dict.fromkeys(formats))
    unknown = sorted(set(wanted) - set(FORMATS))
    if unknown:
        raise ValueError(f"Unknown report formats {unknown}; known: {', '.join(FORMATS)}.")
    page = to_html(document) if {"html", "pdf"} & set(wanted) else ""
    reports = []
    if "html" in wanted:
        reports.append(write_atomically(out / "report.html", page))
    if "md" in wanted:
        reports.append(write_atomically(out / "report.md", to_markdown(document)))
    files: dict[str, bytes] = {}
    for kind in ("csv", "latex"):
        files |= exports.tables(document, kind) if kind in wanted else {}
    for kind in ("png", "svg", "pdf"):
        files |= exports.figures(document, kind) if kind in wanted else {}
    if "md" in wanted and "png" not in wanted:
        files |= exports.figures(document, "png", shown=True)
    written = [write_atomically(out / name, data) for name, data in files.items()]
    if "pdf" in wanted:
        reports.append(write_atomically(out / "report.pdf", printing.to_pdf(page)))
    return [*reports, *written]
