"""`bench list`: lists the methods, rewards, models, prompt sets and sweeps that can be named in a sweep."""

from pathlib import Path
from typing import Any

import click

from bench import console
from bench.commands.shared import debug_option, json_option

HIDDEN = ("name", "summary", "settings", "exact", "requires", "missing")
"""Fields that the table shows last (`name`, `summary`) or that only `--json` prints."""

KINDS = ("methods", "rewards", "models", "prompts", "sweeps")


@click.command("list", short_help="List methods, rewards, models, prompts or sweeps.")
@click.argument("kind", type=click.Choice(KINDS))
@json_option
@debug_option
def command(kind: str, as_json: bool) -> None:
    """List the methods, rewards, models, prompt sets or sweeps that can be named, with one line about each."""
    rows = {"methods": methods, "rewards": rewards, "models": models, "prompts": prompts, "sweeps": sweeps}[kind]()
    if as_json:
        console.say_json(rows)
        return
    if not rows:
        console.say(f"there are no {kind}")
        return
    extra = [key for key in rows[0] if key not in HIDDEN]
    columns = ["name", *extra, "summary"]
    console.table(columns, [[row[column] for column in columns] for row in rows])


def methods() -> list[dict[str, Any]]:
    """A row for each built-in or installed method, with its settings, their defaults and what is published of them."""
    from bench.build.plugins import load_method, method_names
    from bench.plan.preflight import missing_requirement
    from methods.settings import provenance

    rows = []
    for name in method_names():
        cls = load_method(name)
        settings = {
            key: {
                "default": None if field.is_required() else field.get_default(call_default_factory=True),
                "description": field.description,
                **provenance(field),
            }
            for key, field in cls.Settings.model_fields.items()
        }
        kind = "peer" if cls.own_trainer else "training" if cls.trains else "sampling"
        missing = missing_requirement(cls.requires)
        rows.append(
            {
                "name": name,
                "access": cls.reward_access,
                "kind": f"{kind}, not installed" if missing else kind,
                "exact": not cls.own_trainer,
                "requires": list(cls.requires),
                "missing": missing,
                "summary": cls.summary,
                "settings": settings,
            }
        )
    return rows


def rewards() -> list[dict[str, Any]]:
    """A row for each built-in or installed reward."""
    from bench.build.plugins import reward_names
    from rewards.registry import summaries

    known = summaries()
    return [{"name": name, "summary": known.get(name, "from an installed package")} for name in reward_names()]


def models() -> list[dict[str, Any]]:
    """A row for each model that ships with the package or is installed."""
    from bench.build.plugins import embedded_models, installed

    rows = [
        {"name": name, "megabytes": round(_size(folder) / 1e6, 1), "summary": _first_sentence(folder / "README.md")}
        for name, folder in embedded_models().items()
    ]
    return rows + [
        {"name": name, "megabytes": "", "summary": f"from {value}"} for name, value in installed("models").items()
    ]


def prompts() -> list[dict[str, Any]]:
    """A row for each prompt set that ships with the package."""
    from bench.sweep import prompts as sets

    return [
        {"name": name, "prompts": len(sets.read(name, Path())), "summary": sets.summary(name)} for name in sets.names()
    ]


def sweeps() -> list[dict[str, Any]]:
    """A row for each sweep that ships with the package, and for each file in `sweeps/` of the working directory."""
    from bench.errors import BenchError
    from bench.sweep.load import load_sweep
    from bench.sweep.shipped import sweep_files

    rows = []
    for name, path in sweep_files().items():
        try:
            summary = load_sweep(path).sweep.description
        except BenchError as error:
            summary = f"not valid: {error.lines()[0]}"
        rows.append({"name": name, "summary": " ".join(summary.split())})
    return rows


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _first_sentence(card: Path) -> str:
    """The first sentence of a model card after its front matter and headings; "" without a card."""
    if not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8")
    if text.startswith("---"):
        text = text.split("---", 2)[-1]
    prose = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "!", "|", "<"))]
    return prose[0].split(". ")[0].rstrip(".") if prose else ""
