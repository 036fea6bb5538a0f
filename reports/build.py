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
from reports.writers.page import to_html
from reports.writers.report_markdown import to_markdown


@dataclass(frozen=True)
class ReportPart:
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
        name: the prefix of ids on the page.
        share: of the page's room for pictures, this document's share.
        looks: variant -> style, where several documents share their styles.

    Raises:
        ValueError: a frame breaks its schema, or there is neither a curve nor a trial.
    """
    # Trials without any curve stopped before their first point; the report then shows their causes.
    bare = curves.empty and not trials.empty
    checked = no_curves() if bare else validate_curves(curves, meta.budget_column)
    trials = validate_trials(trials, checked)
    checked = checked if checked.empty else with_statuses(checked, trials)
    return compose(checked, validate_evaluation(evaluation), trials, meta, pictures, name, share, looks)


def build_together(parts: Sequence[ReportPart], warnings: Sequence[str] = ()) -> Document:
    """Computes one document of several parts whose numbers cannot be compared: the first, the rest as its `others`.

    Args:
        warnings: shown above everything else, as are the differences between the parts' protocols.
    """
    named = [part.trials.reindex(columns=["method", "variant"]).dropna() for part in parts]
    methods = {name: facts for part in parts for name, facts in part.meta.methods.items()}
    looks = styles(pd.concat(named, ignore_index=True), methods)
    share = 1 / len(parts)
    documents = [
        build_report(part.curves, part.evaluation, part.trials, part.meta, part.pictures, f"f{i or ''}", share, looks)
        for i, part in enumerate(parts)
    ]
    first, *others = documents
    above = [*apart([part.meta for part in parts]), *(Notice("caution", text) for text in warnings)]
    return replace(first, above=tuple(above), others=tuple(others))


def write_document(document: Document, out: Path, formats: Iterable[str] = DEFAULT_FORMATS) -> list[Path]:
    """Writes a document in the given formats, each file whole or not at all.

    `html`: report.html. `md`: report.md and the figures it links to. `csv`, `latex`: tables/*.csv, tables/*.tex. `png`,
    `svg`: figures of that kind. `pdf`: figures/*.pdf, and report.pdf, the page as a browser prints it.

    Returns:
        The files written, the reports first.

    Raises:
        ValueError: a format is unknown.
        printing.NoBrowserError: `pdf` is wanted and there is no browser to print it; every other file is written.
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
