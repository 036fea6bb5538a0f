"""From a run's folder to its report: what `reports/` needs is gathered here, and only here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.store import RunFolder
from bench.trial_spec import Trial

if TYPE_CHECKING:
    import pandas as pd

    from reports.meta import Meta
    from reports.pictures import Picture
    from reports.tables import Table

FORMATS = ("html", "md")


@dataclass(frozen=True)
class Summary:
    """What the terminal shows of a report."""

    answer: str
    ranking: "Table | None"
    files: list[Path]


def describe_run(trials: Sequence[Trial], sweep: Any, command: str, executor: str, parallel: int) -> dict[str, Any]:
    """What `plan.json` keeps beside the trials, so that a report needs the run's folder and nothing else."""
    first = trials[0]
    return {
        "name": sweep.name,
        "description": sweep.description,
        "command": command,
        "executor": executor,
        "parallel": parallel,
        "budget": first.budget.model_dump(),
        "target": first.target,
        "reward": first.reward.label,
        "gold": first.gold.label if first.gold else None,
        "prompts": {"train": list(first.prompts_train), "heldout": list(first.prompts_heldout)},
        "evaluation": _evaluation_words(first),
    }


def report(run: RunFolder, out: Path | None = None, formats: Sequence[str] = FORMATS) -> Summary:
    """Writes `results.parquet` and the report of a run, finished or not.

    Args:
        run: the run's folder.
        out: where the report goes, `report/` in the run's folder by default.
        formats: of `FORMATS`.
    """
    from reports.build import write_report

    try:
        curves = run.write_results()
    except OSError:
        if out is None:
            raise
        curves = run.results()  # a report elsewhere asks no more of a full or read-only disk than to be read
    trials, meta = trials_frame(run), meta_of(run)
    files = write_report(curves, run.evaluation(), trials, meta, pictures(run), out or run.report, formats)
    return summarise(curves, trials, meta, files)


def summarise(curves: "pd.DataFrame", trials: "pd.DataFrame", meta: "Meta", files: list[Path]) -> Summary:
    """The answer in a sentence or two, and the ranking."""
    from reports import frame, headline, tables

    if curves.empty:
        return Summary("", None, files)
    checked = frame.validate_curves(curves, meta.budget_column)
    trials = frame.validate_trials(trials, checked)
    checked = frame.with_statuses(checked, trials)
    return Summary(headline.headline(checked, trials, meta), tables.ranking(checked, trials, meta), files)


def trials_frame(run: RunFolder) -> "pd.DataFrame":
    """One row a planned trial, as `reports` wants it."""
    import pandas as pd

    return pd.DataFrame(run.trials())


def meta_of(run: RunFolder) -> "Meta":
    """What the frames do not say."""
    from reports.meta import Meta

    about = run.about()
    versions: dict[str, str] = {}
    for row in run.trials():
        versions = versions or (row.get("provenance") or {}).get("versions", {})
    return Meta(
        name=about["name"],
        description=about["description"],
        budget_axis=about["budget"]["axis"],
        budget_limit=about["budget"]["limit"],
        target=about["target"],
        reward=about["reward"],
        gold=about["gold"],
        evaluation=about["evaluation"],
        command=about["command"],
        versions=versions,
        seconds_comparable=about["parallel"] == 1,
    )


def pictures(run: RunFolder) -> "list[Picture]":
    """Every sample that the trials kept."""
    from PIL import Image

    from bench.budget import spent
    from reports.pictures import Picture

    about = run.about()
    axis, limit = about["budget"]["axis"], about["budget"]["limit"]
    found: list[Picture] = []
    for row in run.planned():
        folder = run.trial(row["trial"])
        for point in folder.read_curve():
            number = point["point"]
            for split, prompts in about["prompts"].items():
                for prompt in prompts:
                    path = folder.sample_path(number, split, prompt)
                    if not path.exists():
                        continue
                    with Image.open(path) as image:
                        picture = image.convert("RGB")
                    fraction = min(1.0, spent(axis, point["axes"]) / limit)
                    found.append(Picture(row["variant"], row["seed"], number, fraction, prompt, split, picture))
    return found


def _evaluation_words(trial: Trial) -> str:
    evaluate, sampler = trial.evaluate, trial.evaluate.sampler
    counts = {split: len(prompts) for split, prompts in trial.evaluated.items()}
    heldout = f" and {counts['heldout']} held-out" if "heldout" in counts else ""
    images = "1 image" if evaluate.images == 1 else f"{evaluate.images} images"
    return (
        f"{images} a prompt on {counts['train']} training{heldout} prompts; DDIM with {sampler.steps} steps, "
        f"guidance {sampler.guidance:g}, eta {sampler.eta:g}; the same noise (seed {evaluate.seed}) at every point, "
        "for every method and seed."
    )
