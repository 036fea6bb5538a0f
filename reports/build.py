"""The entry point: frames in, files out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from reports.document import Document, compose
from reports.files import write_atomically
from reports.frame import no_curves, validate_curves, validate_evaluation, validate_trials, with_statuses
from reports.markdown import to_markdown
from reports.meta import Meta
from reports.page import to_html
from reports.pictures import Picture

FORMATS = ("html", "md")


def build_report(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    pictures: Sequence[Picture] = (),
) -> Document:
    """Checks the frames (see `frame.py`) and computes everything that a report shows; writes nothing.

    Raises:
        ValueError: where a frame breaks its schema, or where there is neither a curve nor a trial to report.
    """
    # With trials and no curve, every trial stopped before its first point: their causes are the report.
    bare = curves.empty and not trials.empty
    checked = no_curves() if bare else validate_curves(curves, meta.budget_column)
    trials = validate_trials(trials, checked)
    checked = checked if checked.empty else with_statuses(checked, trials)
    return compose(checked, validate_evaluation(evaluation), trials, meta, pictures)


def write_report(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    pictures: Sequence[Picture],
    out: Path,
    formats: Iterable[str] = FORMATS,
) -> list[Path]:
    """Writes `report.html`, `report.md` and `figures/*.png` into `out`, each whole or not at all.

    Args:
        curves: the tidy frame, one row per (trial, point, split, metric).
        evaluation: one row per (point, split, metric, prompt, sample); may be empty.
        trials: one row per trial, planned ones included.
        meta: what the frames do not say.
        pictures: samples of every variant on the same prompts and noise; may be empty.
        out: the folder; made if absent.
        formats: any of "html" and "md".

    Returns:
        The files written, the reports first.
    """
    return write_document(build_report(curves, evaluation, trials, meta, pictures), out, formats)


def write_document(document: Document, out: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Writes what `build_report` computed; see `write_report`."""
    wanted = list(formats)
    unknown = sorted(set(wanted) - set(FORMATS))
    if unknown:
        raise ValueError(f"Unknown report formats {unknown}; known: {', '.join(FORMATS)}.")
    figures = [write_atomically(out / "figures" / name, data) for name, data in document.files.items()]
    reports = []
    if "html" in wanted:
        reports.append(write_atomically(out / "report.html", to_html(document)))
    if "md" in wanted:
        reports.append(write_atomically(out / "report.md", to_markdown(document)))
    return [*reports, *figures]
