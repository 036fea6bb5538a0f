"""Writing of a report from the folders of one or several runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.build.presentation import facts_of
from bench.errors import BenchError
from bench.plan.protocol import in_words
from bench.results.joint_report import grouped_parts
from bench.store.records import WholePlan
from bench.store.recovery import adapter_damage
from bench.store.run_folder import RunFolder, StoredTrial
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
    """The files of a written report, and the parts of it that the terminal shows.

    Attributes:
        answer: the report's answer in words; one line per part.
        ranking: the ranking of the methods; None without one.
        files: the written files.
        parts: name, answer and ranking of every part; there are several if not all runs can be compared.
        warnings: the warnings at the head of the report.
        damage: sentences about present and mended damage to files.
    """

    answer: str
    ranking: Table | None
    files: list[Path]
    parts: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def report(
    runs: RunFolder | Sequence[RunFolder],
    out: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    baseline: str | None = None,
) -> WrittenReport:
    """Writes `results.parquet` of every run, and one report over them, finished or not.

    Args:
        runs: the folder of a run, or several.
        out: the report's folder; by default `report/` in the run's folder, or for several runs a folder next to the
            first.
        formats: names of `reports.choices.FORMATS`.
        baseline: the variant that ratios refer to.

    Raises:
        BenchError: no variant that has finished training is called `baseline`, a frame is invalid, the report cannot be
            written, or there is no browser to print a PDF with.
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
    where = out or (runs[0].report if len(runs) == 1 else _joint_folder(runs))
    try:
        files = write_document(document, where, formats)
    except OSError as error:
        raise BenchError(f"cannot be written ({error.strerror})", str(where), "choose another folder") from None
    except NoBrowserError as error:
        raise BenchError(
            str(error), str(where), "install one (apt-get install chromium); the other formats were written"
        ) from None
    shown: list[dict[str, Any]] = [
        {"name": page.meta.name, "answer": page.answer, "ranking": page.ranking.records()}
        for page in (document, *document.others)
        if page.ranking is not None
    ]
    answers = [f"{part['name']}: {part['answer']}" if document.others else part["answer"] for part in shown]
    damage = [text for run in runs for text in run.whole_plan().damage]
    damage += [f"{row['trial']}: {text}" for part in parts for row in part.trials.to_dict("records")
              for text in row["damage"]]  # fmt: skip
    damage += [f"{path} cannot be read; the page omits it" for page in (document, *document.others) if page.sheet
               for path in page.sheet.unreadable]  # fmt: skip
    above = [notice.text for notice in document.above]
    return WrittenReport("\n".join(answers), document.ranking, files, shown, above, damage)


def part_of(run: RunFolder, must_write: bool = False) -> ReportPart:
    """The data of one run for `reports`; also writes the run's `results.parquet`.

    Raises:
        OSError: `results.parquet` cannot be written, and `must_write` is set; else such errors are ignored.
    """
    plan = run.whole_plan()
    curves, trials = run.gather()
    try:
        run.write_results(curves)
    except OSError:
        if must_write:
            raise  # a report in another folder needs no more than to read the run
    meta = meta_of(plan, trials)
    curves = with_families(curves, {name: facts.family for name, facts in meta.methods.items()})
    evaluation = run.evaluation(trials)
    for trial in trials:
        trial.damage += map(str, adapter_damage(run.trial(trial.key), trial.record))
    rows = pd.DataFrame([trial.row() for trial in trials])
    return ReportPart(curves, evaluation, rows, meta, pictures(run, plan, curves))


def _require_variant(name: str, trained: set[str]) -> None:
    if name not in trained:
        what = f"no variant that has finished training is called {name}"
        raise BenchError(
            what, "--ratios-to", f"one of: {', '.join(sorted(trained))}" if trained else "run more of the sweep"
        )


def _trained(part: ReportPart) -> set[str]:
    """The variants that have finished training, to which ratios can refer."""
    if part.curves.empty:
        return set()
    done = set(part.trials.loc[part.trials["status"] == DONE, "variant"].astype(str))
    return done - untrained_variants(part.curves)


def _joint_folder(runs: Sequence[RunFolder]) -> Path:
    """The default folder of a report on several runs: next to the first, named after the first three."""
    return runs[0].path.with_name(f"{'-and-'.join(run.path.name for run in runs[:3])}-report")


def meta_of(plan: WholePlan, trials: Sequence[StoredTrial]) -> Meta:
    """The facts of a run that a report needs besides its frames.

    Args:
        plan: the run's plan.
        trials: the run's trials.
    """
    provenances = [trial.record.provenance for trial in trials]
    versions = next((item.versions for item in provenances if item and item.versions), {})
    return Meta(
        name=plan.name,
        description=plan.description,
        budget_axis=plan.budget.axis,
        budget_limit=plan.budget.limit,
        target=plan.target,
        reward=plan.reward,
        gold=plan.gold,
        diversity=plan.diversity,
        evaluation=plan.evaluation,
        command=plan.command,
        versions=versions,
        methods=facts_of(plan.methods, plan.method_names),
        seconds_comparable=plan.parallel == 1,
        tuning={**plan.tuning.model_dump(), "copies": plan.tuning.copies} if plan.tuning else None,
        protocol=in_words(plan.protocol, plan.reward, plan.evaluation),
        warnings=(*plan.damage, *plan.warnings, *warnings_of(trials)),
    )


def warnings_of(trials: Iterable[StoredTrial]) -> list[str]:
    """The warnings of the trials, each text once."""
    texts = (warning.text for trial in trials for warning in (trial.record.warnings or {}).values())
    return list(dict.fromkeys(texts))


def pictures(run: RunFolder, plan: WholePlan, curves: pd.DataFrame) -> list[Picture]:
    """The samples that a report may show: those of one seed, and those of the untrained variants.

    The samples are listed, not opened: a thousand trials have a hundred thousand of them.
    """
    axis, limit = plan.budget.axis, plan.budget.limit
    order = [(split, prompt) for split, prompts in plan.prompts.items() for prompt in prompts]
    sampled = [row for row in plan.trials if run.trial(row.trial).samples.is_dir()]
    if not sampled:
        return []
    untrained = untrained_variants(curves) if len(curves) else set()
    seed = seed_to_show([(row.variant, row.seed) for row in sampled], untrained)
    shown: list[Picture] = []
    for row in sampled:
        if row.seed != seed and row.variant not in untrained:
            continue
        folder = run.trial(row.trial)
        for point in folder.read_curve():
            number = point.point
            existing = folder.sample_names(number)
            fraction = min(1.0, spent(axis, point.axes) / limit)
            for split, prompt in order:
                path = folder.sample_path(number, split, prompt)
                if path.name in existing:
                    shown.append(Picture(row.variant, row.seed, number, fraction, prompt, split, path))
    return shown
