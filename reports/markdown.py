"""The report as Markdown: the same answer and the same tables, with the figures as files beside it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reports.tables import Table

if TYPE_CHECKING:
    from reports.document import Document


def to_markdown(document: "Document") -> str:
    """GitHub-flavoured Markdown; figures are linked relative to the report."""
    meta = document.meta
    parts = [f"# {_plain(meta.name)}", _plain(meta.description)]
    parts += [f"> **{_plain(notice.text)}**" for notice in document.notices]
    parts += [_plain(document.answer)]
    found = [document.ranking, *document.efficiency, document.rewards, document.paired, document.tuning]
    parts += [table_markdown(table) for table in found[:1] if table is not None]
    parts += [f"![{name.removesuffix('.png')}](figures/{name})" for name in _shown(document)]
    parts += [table_markdown(table) for table in [*found[1:], document.memory, document.trials] if table is not None]
    if document.commands:
        parts.append("Run again:\n\n```\n" + "\n".join(document.commands) + "\n```")
    parts += [f"## {title}\n\n{text}" for title, text in _about(document)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_markdown(table: Table, level: int = 2) -> str:
    """One table under its title; numbers right-aligned, the best of a column bold."""
    columns = list(table.cells.columns)
    lines = [_line(_cell(column) for column in columns)]
    lines.append(_line("---" if column in table.text else "--:" for column in columns))
    for index, row in enumerate(table.cells.itertuples(index=False)):
        cells = (f"**{_cell(value)}**" if (index, column) in table.best else _cell(value)
                 for column, value in zip(columns, row, strict=True))  # fmt: skip
        lines.append(_line(cells))
    return "\n\n".join(
        part for part in (f"{'#' * level} {_plain(table.title)}", "\n".join(lines), _plain(table.note)) if part
    )


def _shown(document: "Document") -> list[str]:
    budget = f"curves-{document.meta.budget_column.replace('_', '-')}.png"
    return [name for name in (budget, "pictures.png") if name in document.files]


def _about(document: "Document") -> list[tuple[str, str]]:
    meta = document.meta
    versions = ", ".join(f"{name} {version}" for name, version in meta.versions.items())
    command = f"```\n{meta.command}\n```" if meta.command else ""
    found = [("Evaluation", _plain(meta.evaluation)), ("Command", command), ("Versions", _plain(versions))]
    return [(title, text) for title, text in found if text]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: object) -> str:
    return _plain(str(text)).replace("|", "\\|").replace("\n", "<br>")


def _plain(text: str) -> str:
    """Names come from YAML files: what Markdown or HTML would act on is written out."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")
