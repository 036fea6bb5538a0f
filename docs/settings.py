"""Writes docs/settings.md, the page of what is published of each method's settings, from the settings themselves.

make settings-page
"""

import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from methods import registry
from methods.base import TrainingSettings
from methods.settings import OURS, modifications, provenance

PAGE = Path(__file__).resolve().parent / "settings.md"
HEAD = """\
# Settings and what is published of them

Every setting of the methods that ship, its default beside the value of the paper or of its authors' code, and where
that stands. What each setting does: `bench list methods --json`.

A row of a comparison carries a method's plain name where it is what is published, up to what model, budget, reward or
machine decide; the settings for which that holds **scale**. The loss, the baseline of the advantage, which steps are
trained, the start noise, what is kept in a buffer and how samples are weighed do not: another value is another method.
Where such a default differs today, the last column says **modified**.

`make settings-page` writes this page. The settings of every method that trains are in the first table only, unless a
method has them otherwise.
"""
COLUMNS = "| setting | default | published | scales | |\n|---|---|---|---|---|"


def shown(value: object) -> str:
    """A value as a sweep writes it; nothing for None."""
    text = f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
    return "" if value is None else text


def row(name: str, field: FieldInfo, modified: list[str], source: str | None) -> str:
    """A setting as a row of a table; its source stands there if it is not `source`, the table's."""
    known = provenance(field)
    published = OURS if known["source"] == OURS else shown(known["published"]) or "the method's"
    if known["source"] not in (source, OURS, None):
        published += f" ({known['source']})"
    note = "**modified**" if name in modified else ""
    default = "the method's" if field.is_required() else shown(to_jsonable_python(field.default)) or "none"
    return f"| `{name}` | {default} | {published} | {'yes' if known['scales'] else 'no'} | {note} |"


def section(title: str, model: type[BaseModel], names: list[str], modified: list[str]) -> str:
    """A heading, the source that most of the settings have, and their table."""
    sources = [provenance(model.model_fields[name])["source"] for name in names]
    stated = [source for source in sources if source not in (OURS, None)]
    source = max(stated, key=stated.count) if stated else None
    rows = [row(name, model.model_fields[name], modified, source) for name in names]
    return "\n".join([f"\n## {title}\n", *([f"Source: {source}.\n"] if source else []), COLUMNS, *rows])


def page() -> str:
    """The page as Markdown."""
    shared = TrainingSettings.model_fields
    parts = [HEAD.rstrip(), section("Every method that trains", TrainingSettings, list(shared), [])]
    for name in registry.names():
        model = registry.load(name).Settings
        names = [
            key
            for key, field in model.model_fields.items()
            if key not in shared or (field.default, provenance(field)) != (shared[key].default, provenance(shared[key]))
        ]
        if names:
            parts.append(section(f"`{name}`", model, names, modifications(model())))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
