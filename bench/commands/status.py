"""`bench status`: how the trials of a run stand, live or afterwards."""

from pathlib import Path
from typing import Any

import click

from bench import console
from bench.commands.shared import PLACE, RUNS, debug_option, find_run, json_option
from bench.remote.place import Place


@click.command("status", short_help="Show how a run's trials stand.")
@click.argument("run", type=PLACE, required=False)
@json_option
@debug_option
def command(run: Path | Place | None, as_json: bool) -> None:
    """Show the trials of RUN (a run's folder, name, URL or sweep file); without RUN, list the runs in runs/."""
    rows = _runs() if run is None else _trials(run)
    if as_json:
        console.say_json(rows)
    elif not rows:
        console.say(f"no runs in {RUNS}/; start with: bench run sweeps/quickstart.yaml")
    elif run is None:
        columns = ["run", "trials", "done", "running", "broken"]
        console.table(columns, [[row[column] for column in columns] for row in rows], right=columns[1:])
    else:
        console.table(
            ["trial", "status", "progress", "points", "reward", "cause"],
            [
                (
                    row["trial"],
                    row["status"],
                    f"{row['progress']:.0%}",
                    row["points"],
                    console.value(row["reward"]),
                    row["cause"] or "",
                )
                for row in rows
            ],
            right=("progress", "points", "reward"),
        )


def _runs() -> list[dict[str, Any]]:
    from bench.store import RunFolder

    rows = []
    for folder in sorted(RUNS.glob("*/plan.json")) if RUNS.is_dir() else []:
        statuses = [row["status"] for row in RunFolder.open(folder.parent).trials()]
        broken = sum(status in ("failed", "diverged", "interrupted") for status in statuses)
        rows.append(
            {
                "run": str(folder.parent),
                "trials": len(statuses),
                "done": statuses.count("done"),
                "running": statuses.count("running"),
                "broken": broken,
            }
        )
    return rows


def _trials(where: Path | Place) -> list[dict[str, Any]]:
    from bench.execution.progress import view_of
    from bench.remote.fetching import records
    from bench.trial_spec import Budget

    run = find_run(where, records)
    budget = Budget.model_validate(run.about()["budget"])
    rows = []
    for row in run.trials():
        view = view_of(run.trial(row["trial"]), row["variant"], budget)
        kept = {
            key: row.get(key) for key in ("trial", "method", "variant", "seed", "status", "cause", "points", "axes")
        }
        rows.append({**kept, "progress": view.progress, "reward": view.latest})
    return rows
