"""One table as GitHub-flavoured Markdown."""

from collections.abc import Iterable

from reports.formatting import cell_parts
from reports.tables.table import Table


def table_markdown(table: Table, level: int = 2) -> str:
    """The table under its title; numbers are right-aligned, the best of a column is bold."""
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


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: object) -> str:
    return escaped(str(text)).replace("|", "\\|").replace("\n", "<br>")


def _bold(text: str) -> str:
    """A cell whose value is bold, and not its range."""
    value = cell_parts(text)[0]
    return f"**{_cell(value)}**{_cell(text[len(value) :])}"


def escaped(text: str) -> str:
    """The text with the characters escaped that Markdown or HTML would interpret; names come from YAML files."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")
