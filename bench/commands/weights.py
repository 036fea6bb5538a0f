"""`bench weights`: lists, fetches and checks the weights that rewards and models need."""

import sys
from pathlib import Path
from typing import Any

import click

from bench import console
from bench.build.weights.checking import DAMAGED, NOT_HERE, checked
from bench.build.weights.fetching import cache_folder, fetch_item
from bench.build.weights.needs import HUB, Item, chosen, described, first_choices, items, lacking
from bench.commands.shared import debug_option, json_option
from bench.errors import BAD_INPUT, GOOD, BenchError


@click.group("weights", short_help="List, fetch or check the weights of rewards and models.", no_args_is_help=False)
def command() -> None:
    """List the weights that rewards and models need, fetch them from the Hugging Face hub into its cache, check them.

    The cache is ~/.cache/huggingface/hub, or HF_HUB_CACHE if it is set.
    """


@command.command("list", short_help="List the weights that are needed and those in the cache.")
@json_option
@debug_option
def list_(as_json: bool) -> None:
    """List the weights of each reward, and of the models that the shipped sweeps name."""
    found = items()
    if as_json:
        console.say_json([described(item) for item in found])
        return
    first = first_choices(found)
    rows = [_cells(item, described(item), item in first, lines=sys.stdout.isatty()) for item in found]
    console.table(["name", "what", "here"], rows)
    console.say(f"cache: {cache_folder()}")
    console.say("`bench weights fetch NAME` fetches into the cache; shipped weights are part of the package")


@command.command("fetch", short_help="Fetch the weights of rewards or models.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@debug_option
def fetch(names: tuple[str, ...]) -> int:
    """Fetch the weights of NAME into the hub's cache: a reward, or a hub id (owner/name) of a model or a reward's part.

    If a reward needs only one of several repositories, the first is fetched; name another by its hub id.
    """
    for item in first_choices(chosen(items(), names)):
        row = described(item)
        if item.weights is None:
            console.say(f"{item.label} ships with the package")
        elif row["complete"]:
            console.say(f"{item.label} is here already: {row['cached']}")
        else:
            fetch_item(item)
            wrong = [check for check in checked([item], only_declared=True) if check["state"] == DAMAGED]
            if wrong:
                raise BenchError(_difference(wrong[0]), None, wrong[0]["do"])
            console.say(f"{item.label} is here: {described(item)['cached']}")
    return GOOD


@command.command("verify", short_help="Check that weights are undamaged.")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@json_option
@debug_option
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Check the files of NAME, or of every item, against their SHA-256; no network is needed.

    The hash is the one in this package, or else the one that the hub gave with a large file; `hf cache verify` asks the
    hub for those of small files too. Exits with 2 if a file is damaged, or if the weights of a NAME are not in the
    cache.
    """
    wanted = chosen(items(), names) if names else items()
    rows = checked(wanted)
    damaged = [row for row in rows if row["state"] == DAMAGED]
    missing = lacking(wanted) if names else []
    if as_json:
        console.say_json(rows)
    elif rows:
        shown = [_checked_cells(row, lines=sys.stdout.isatty()) for row in rows]
        console.table(["name", "file", "state", "sha256"], shown)
        for row in damaged:
            console.say(f"damaged: {_difference(row)}; {row['do']}")
        for name in missing:
            console.say(f"not here: {name}; bench weights fetch {name}")
    return BAD_INPUT if damaged or missing else GOOD


# -- tables ----------------------------------------------------------------------------------------------------


def _cells(item: Item, row: dict[str, Any], first: bool, lines: bool) -> list[str]:
    """The cells of an item in `bench weights list`; `lines` puts each fact on a line of its own."""
    from rich.filesize import decimal

    files, source = row["files"], row["repository"] if first else f"or {row['repository']}"
    if item.weights is not None and item.kind == "model":
        source, listed = "", f"{len(files)} files in Stable Diffusion's layout"
    elif not lines and len(files) > 4:
        listed = f"{', '.join(files[:3])} and {len(files) - 3} more"
    else:
        listed = ", ".join(files)
    size = decimal(row["size"]) if row["size"] else "size not known"
    facts = f"{size}, {row['licence']}"
    hashes = ", ".join(value[:8] for value in row["sha256"].values())
    what = [source, listed, facts, f"sha256 {hashes}" if hashes else ""]
    return [_name(item.name, lines), ("\n" if lines else "; ").join(part for part in what if part), _state(item, row)]


def _state(item: Item, row: dict[str, Any]) -> str:
    if item.weights is None:
        return "shipped" if row["complete"] else "missing"
    if row["complete"]:
        return "here"
    here = sum(path is not None for path in item.places().values())
    return f"{here} of {len(row['files'])} files" if here else NOT_HERE


def _checked_cells(row: dict[str, Any], lines: bool) -> list[str]:
    """The cells of a file in `bench weights verify`; a hash is marked `(hub)` if this package has none."""
    if row["file"] is None:
        file = "" if row["repository"] in (None, row["name"]) else _name(row["repository"], lines)
    else:
        file = row["file"] if row["repository"] else Path(row["file"]).name
    hash_ = f"{row['expected'][:8]}{' (hub)' if row['source'] == HUB else ''}" if row["expected"] else ""
    return [_name(row["name"], lines), file, row["state"], row["problem"] or hash_]


def _name(name: str, lines: bool) -> str:
    """The name; with `lines`, a hub id is broken after the owner to leave room for other columns."""
    return name.replace("/", "/\n") if lines else name


def _difference(row: dict[str, Any]) -> str:
    if row["problem"]:
        return f"{row['path']}: {row['problem']}"
    return f"{row['path']} has sha256 {row['found'][:12]}, not {row['expected'][:12]}"
