"""The report as Markdown: the same answer and the same tables, with the figures as files beside it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reports.formatting import cell_parts
from reports.tables.table import Table

if TYPE_CHECKING:
    from reports.document import Document


def to_markdown(document: "Document") -> str:
    """GitHub-flavoured Markdown; figures are linked relative to the report."""
    parts = [f"> **{escaped(notice.text)}**" for notice in document.above]
    parts += [_one(document)]
    parts += [_one(other, f"part-{index}-") for index, other in enumerate(document.others, 2)]
    return "\n\n".join(parts) + "\n"


def _one(document: "Document", prefix: str = "") -> str:
    meta = document.meta
    parts = [f"# {escaped(meta.name)}", escaped(meta.description)]
    parts += [f"> **{escaped(notice.text)}**" for notice in document.notices]
    parts += [escaped(document.answer)]
    first = [document.ranking] if document.ranking is not None else []
    parts += [table_markdown(table) for table in first]
    parts += [f"![{name}](figures/{prefix}{name}.png)" for name in shown(document)]
    parts += [table_markdown(_narrow(table)) for table in document.all_tables[len(first) :]]
    if document.commands:
        parts.append("Run again:\n\n```\n" + "\n".join(document.commands) + "\n```")
    parts += [f"## {title}\n\n{text}" for title, text in _about(document)]
    return "\n\n".join(part for part in parts if part)


def table_markdown(table: Table, level: int = 2) -> str:
    """One table under its title; numbers right-aligned, the best of a column bold."""
    columns = list(table.cells.columns)
    lines = [_line(_cell(column) for column in columns)]
    lines.append(_line("---" if column in table.text else "--:" for column in columns))
    for index, row in enumerate(table.printed.itertuples(index=False)):
        cells = (_bold(str(value)) if (index, column) in table.best else _cell(value)
                 for column, value in zip(columns, row, strict=True))  # fmt: skip
        lines.append(_line(cells))
    return "\n\n".join(
        part for part in (f"{'#' * level} {escaped(table.title)}", "\n".join(lines), escaped(table.note)) if part
    )


def shown(document: "Document") -> list[str]:
    """The names of the figures that the Markdown links to."""
    budget = f"curves-{document.meta.budget_column.replace('_', '-')}"
    found = [name for name in (budget, "over-optimisation") if name in document.drawings]
    return [*found, "pictures"] if document.sheet is not None else found


def _narrow(table: Table) -> Table:
    """Commands stand under the table: Markdown cannot fold them away."""
    return table.without("to run it again")


def _about(document: "Document") -> list[tuple[str, str]]:
    meta = document.meta
    versions = ", ".join(f"{name} {version}" for name, version in meta.versions.items())
    command = f"```\n{meta.command}\n```" if meta.command else ""
    found = [("Evaluation", escaped(meta.evaluation)), ("Command", command), ("Versions", escaped(versions))]
    return [(title, text) for title, text in found if text]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: object) -> str:
    return escaped(str(text)).replace("|", "\\|").replace("\n", "<br>")


def _bold(text: str) -> str:
    """A cell whose value is bold, and not its range."""
    value = cell_parts(text)[0]
    return f"**{_cell(value)}**{_cell(text[len(value) :])}"


def escaped(text: str) -> str:
    """Names come from YAML files: what Markdown or HTML would act on is written out."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")
