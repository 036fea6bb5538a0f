"""From a run's folder to its report: what `reports/` needs is gathered here, and only here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.build.presentation import facts_of
from bench.errors import BenchError
from bench.plan.protocol import in_words
from bench.results.together import grouped_parts
from bench.store.records import WholePlan
from bench.store.run_folder import RunFolder, StoredTrial
from bench.store.settled import of_adapter
from models.ledger import spent
from reports.build import ReportPart, build_together, write_document
from reports.choices import DEFAULT_FORMATS
from reports.figures.pictures import Picture, seed_to_show
from reports.frame import untrained_variants, with_families
from reports.meta import Meta
from reports.names import DONE
from reports.tables.table import Table
from reports.writers.printing import NoBrowserError


@dataclass(frozen=True)
class WrittenReport:
    """What the terminal shows of a report."""

    answer: str
    ranking: Table | None
    files: list[Path]
    parts: list[dict[str, Any]] = field(default_factory=list)
    """What cannot be compared, each with its name, answer and ranking."""
    warnings: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    """Files that are or were damaged, and what became of them."""


def report(
    runs: RunFolder | Sequence[RunFolder],
    out: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    baseline: str | None = None,
) -> WrittenReport:
    """Writes `results.parquet` of every run, and one report over them, finished or not.

    Args:
        runs: the folder of a run, or several.
        out: where the report goes; `report/` in the run's folder by default, beside the first of several.
        formats: of `reports.choices.FORMATS`.
        baseline: the variant that ratios refer to.

    Raises:
        BenchError: no variant that has finished training is called `baseline`; there is no browser to print a PDF with.
    """

    runs = [runs] if isinstance(runs, RunFolder) else list(runs)
    if len(runs) > 1:
        parts, warnings = grouped_parts([(run, part_of(run)) for run in runs])
    else:
        parts, warnings = [part_of(runs[0], out is None)], []
    if baseline is not None:
        _require_variant(baseline, {variant for part in parts for variant in _trained(part)})
        parts = [replace(part, meta=replace(part.meta, baseline=baseline)) for part in parts]
    try:
        document = build_together(parts, warnings)
    except ValueError as error:
        raise BenchError(str(error), " ".join(str(run.path) for run in runs), "run the sweep again") from None
    where = out or (runs[0].report if len(runs) == 1 else _beside(runs))
    try:
        files = write_document(document, where, formats)
    except OSError as error:
        raise BenchError(f"cannot be written ({error.strerror})", str(where), "choose another folder") from None
    except NoBrowserError as error:
        raise BenchError(
            str(error), str(where), "install one (apt-get install chromium); all else was written"
        ) from None
    told: list[dict[str, Any]] = [
        {"name": each.meta.name, "answer": each.answer, "ranking": each.ranking.records()}
        for each in (document, *document.others)
        if each.ranking is not None
    ]
    answers = [f"{part['name']}: {part['answer']}" if document.others else part["answer"] for part in told]
    damage = [text for run in runs for text in run.described().damage]
    damage += [f"{row['trial']}: {text}" for part in parts for row in part.trials.to_dict("records")
              for text in row["damage"]]  # fmt: skip
    damage += [f"{path} cannot be read; the page does without" for each in (document, *document.others) if each.sheet
               for path in each.sheet.unreadable]  # fmt: skip
    above = [notice.text for notice in document.above]
    return WrittenReport("\n".join(answers), document.ranking, files, told, above, damage)


def part_of(run: RunFolder, must_write: bool = False) -> ReportPart:
    """What `reports` wants to know of one run; writes its `results.parquet`, where it can or must."""
    about = run.described()
    curves, trials = run.gather()
    try:
        run.write_results(curves)
    except OSError:
        if must_write:
            raise  # a report elsewhere asks no more of a full or read-only disk than to be read
    meta = meta_of(about, trials)
    curves = with_families(curves, {name: facts.family for name, facts in meta.methods.items()})
    evaluation = run.evaluation(trials)
    for trial in trials:
        trial.damage += map(str, of_adapter(run.trial(trial.key), trial.record))
    rows = pd.DataFrame([trial.row() for trial in trials])
    return ReportPart(curves, evaluation, rows, meta, pictures(run, about, curves))


def _require_variant(name: str, known: set[str]) -> None:
    if name not in known:
        what = f"no variant that has finished training is called {name}"
        raise BenchError(
            what, "--ratios-to", f"one of: {', '.join(sorted(known))}" if known else "run more of the sweep"
        )


def _trained(part: ReportPart) -> set[str]:
    """Variants that ratios can refer to."""
    if part.curves.empty:
        return set()
    done = set(part.trials.loc[part.trials["status"] == DONE, "variant"].astype(str))
    return done - untrained_variants(part.curves)


def _beside(runs: Sequence[RunFolder]) -> Path:
    return runs[0].path.with_name(f"{'-and-'.join(run.path.name for run in runs[:3])}-report")


def meta_of(about: WholePlan, trials: Sequence[StoredTrial]) -> Meta:
    """What the frames do not say.

    Args:
        about: the run's `plan.json`.
        trials: of the run.
    """

    provenances = [trial.record.provenance for trial in trials]
    versions = next((found.versions for found in provenances if found and found.versions), {})
    return Meta(
        name=about.name,
        description=about.description,
        budget_axis=about.budget.axis,
        budget_limit=about.budget.limit,
        target=about.target,
        reward=about.reward,
        gold=about.gold,
        diversity=about.diversity,
        evaluation=about.evaluation,
        command=about.command,
        versions=versions,
        methods=facts_of(about.methods, about.method_names),
        seconds_comparable=about.parallel == 1,
        tuning=about.tuning,
        protocol=in_words(about.protocol, about.reward, about.evaluation),
        warnings=(*about.damage, *about.warnings, *warnings_of(trials)),
    )


def warnings_of(trials: Iterable[StoredTrial]) -> list[str]:
    """What trials found while they ran, each sentence once."""
    found = (warning.text for trial in trials for warning in (trial.record.warnings or {}).values())
    return list(dict.fromkeys(found))


def pictures(run: RunFolder, about: WholePlan, curves: pd.DataFrame) -> list[Picture]:
    """The samples that a report may show: of one seed, and of the variants that train nothing.

    They are listed here and opened by whoever shows them: a thousand trials keep a hundred thousand.
    """

    axis, limit = about.budget.axis, about.budget.limit
    order = [(split, prompt) for split, prompts in about.prompts.items() for prompt in prompts]
    kept = [row for row in about.trials if run.trial(row.trial).samples.is_dir()]
    if not kept:
        return []
    still = untrained_variants(curves) if len(curves) else set()
    seed = seed_to_show([(row.variant, row.seed) for row in kept], still)
    found: list[Picture] = []
    for row in kept:
        if row.seed != seed and row.variant not in still:
            continue
        folder = run.trial(row.trial)
        for point in folder.read_curve():
            number = point.point
            there = folder.sample_names(number)
            fraction = min(1.0, spent(axis, point.axes) / limit)
            for split, prompt in order:
                path = folder.sample_path(number, split, prompt)
                if path.name in there:
                    found.append(Picture(row.variant, row.seed, number, fraction, prompt, split, path))
    return found
