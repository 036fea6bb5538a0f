"""The report as one HTML file: nothing is loaded from elsewhere, light and dark follow the reader."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.document import Document
from reports.figures.pictures import column_words, data_uri
from reports.figures.svg import palette_css
from reports.formatting import amount, cell_parts, listing, plural
from reports.names import DONE, axis_words
from reports.tables.table import Table

MOST_ROWS = 1_000
"""Most rows of a table on the page, which stays under ten megabytes."""

HERE = Path(__file__).parent


def to_html(document: Document) -> str:
    """The document as one HTML page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["cell"] = cell_html
    environment.filters["first_rows"] = first_rows
    environment.filters["header"] = lambda text: Markup("<br>").join(escape(line) for line in str(text).split("\n"))
    parts = [document, *document.others]
    light, dark = palette_css({name: style for part in parts for name, style in part.styles.items()})
    template = environment.get_template("page.html.jinja")
    return template.render(
        document=document,
        meta=document.meta,
        parts=[_part(part, index) for index, part in enumerate(parts)],
        light=Markup(light),
        dark=Markup(dark),
        style=_asset("page.css"),
        library_style=_asset("vendor/uplot/uPlot.min.css"),
        scripts=[_asset(name) for name in ("vendor/uplot/uPlot.iife.min.js", "interactive.js", "page.js")],
        licence=_asset("vendor/uplot/LICENSE"),
        column_words=column_words,
    )


def _part(document: Document, index: int) -> dict[str, Any]:
    """The template's variables for one document."""
    return {
        "document": document,
        "id": f"part-{index + 1}",
        "facts": _facts(document),
        "curves": Markup(document.curves_json),
        "static": [Markup(figure) for figure in document.static],
        "goodhart": [Markup(figure) for figure in document.goodhart],
        "pictures": _pictures(document),
    }


def _asset(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8").strip())


def first_rows(table: Table, most: int = MOST_ROWS) -> Table:
    """The table cut to `most` rows, with a note on the rows left out, which are the last ones."""
    left_out = table.cells[most:]
    if left_out.empty:
        return table
    note = f"The first {most:,} of {len(table.cells):,} rows; report.md has them all."
    if "status" in left_out:
        counts = left_out["status"].value_counts()
        note += f" Left out here: {listing(f'{count:,} {status}' for status, count in counts.items())}."
    return replace(table, cells=table.cells[:most], note=f"{note} {table.note}".strip())


def cell_html(text: object) -> Markup:
    """A cell as HTML, with classes that set the range and any further line quieter than the value."""
    first, around, more = cell_parts(str(text))
    value = Markup("<span class=value>{}</span>").format(first)
    if around:
        value += Markup(" <span class=range>{}</span>").format(around)
    for line in more:
        value += Markup("<span class=second>{}</span>").format(line)
    return value


def _facts(document: Document) -> list[str]:
    """The line under the title: numbers of methods, seeds and trials, and the budget."""
    trials, meta = document.trials.cells, document.meta
    facts = [plural(trials["method"].nunique(), "method"), plural(trials["seed"].nunique(), "seed")]
    done = int((trials["status"] == DONE).sum())
    facts.append(plural(len(trials), "trial") if done == len(trials) else f"{done} of {len(trials)} trials done")
    if meta.budget_limit is not None:
        axis = meta.budget_column
        facts.append(f"a budget of {amount(meta.budget_limit, axis, axis_words(axis))} each")
    return facts


def _pictures(document: Document) -> list[tuple[str, list[tuple[str, list[str | None]]]]]:
    """(percent of the budget, [(variant, [data URI])])."""
    sheet = document.sheet
    if sheet is None:
        return []
    return [
        (f"{fraction:.0%}".replace("%", " %"),
         [(variant, [None if image is None else data_uri(image, sheet.size) for image in images])
          for variant, images in sheet.rows[fraction].items()])
        for fraction in sheet.fractions
    ]  # fmt: skip
