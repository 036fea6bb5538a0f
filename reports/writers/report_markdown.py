"""The report as Markdown: the answer and all tables, linking to the figures as files beside it."""

from reports.document import Document
from reports.tables.table import Table
from reports.writers.markdown import escaped, table_markdown


def to_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown, which links to figures relative to the report."""
    parts = [f"> **{escaped(notice.text)}**" for notice in document.above]
    parts += [_one(document)]
    parts += [_one(other, f"part-{index}-") for index, other in enumerate(document.others, 2)]
    return "\n\n".join(parts) + "\n"


def _one(document: Document, prefix: str = "") -> str:
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


def shown(document: Document) -> list[str]:
    """The names of the figures that the Markdown links to."""
    budget = f"curves-{document.meta.budget_column.replace('_', '-')}"
    found = [name for name in (budget, "over-optimisation") if name in document.drawings]
    return [*found, "pictures"] if document.sheet is not None else found


def _narrow(table: Table) -> Table:
    """Commands stand under the table: Markdown cannot fold them away."""
    return table.without("to run it again")


def _about(document: Document) -> list[tuple[str, str]]:
    meta = document.meta
    versions = ", ".join(f"{name} {version}" for name, version in meta.versions.items())
    command = f"```\n{meta.command}\n```" if meta.command else ""
    found = [("Evaluation", escaped(meta.evaluation)), ("Command", command), ("Versions", escaped(versions))]
    return [(title, text) for title, text in found if text]
