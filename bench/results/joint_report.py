"""Joining of several runs for one report: comparable runs become one part, others separate parts.

Runs are comparable if their numbers are measured alike (reward, gold, model, prompts, evaluation). In a part, trials of
the same variant with the same settings and other seeds are one variant; if the settings differ, the variant's name is
followed by the run's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.plan.protocol import SHOWN, clashing_measures
from bench.store.records import WholePlan
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from reports.build import ReportPart

NAMED = 3
"""The number of trials that a warning names; the others are counted."""
CURVE_TOLERANCE = 1e-3
"""Relative and absolute tolerance for equal values; smaller differences are invisible in a report."""


def grouped_parts(runs: Sequence[tuple[RunFolder, ReportPart]]) -> tuple[list[ReportPart], list[str]]:
    """The parts of a joint report, one per group of comparable runs, and warnings to its readers.

    Args:
        runs: the runs, each with its data from `bench.results.report.part_of`.
    """
    names = run_names([run for run, _ in runs])
    groups: list[list[tuple[str, ReportPart, WholePlan]]] = []
    for name, (run, part) in zip(names, runs, strict=True):
        plan = run.whole_plan()
        part = replace(part, meta=replace(part.meta, name=name))
        own = next((group for group in groups if all(_alike(part, plan, *other[1:]) for other in group)), None)
        if own is None:
            groups.append(own := [])
        own.append((name, part, plan))
    if len(groups) > 1:
        _add_clashing_measures(groups)
    warnings: list[str] = []
    return [_joined([(name, part) for name, part, _ in group], warnings) for group in groups], warnings


def _alike(part: ReportPart, plan: WholePlan, other: ReportPart, other_plan: WholePlan) -> bool:
    """Whether the numbers of two runs are comparable."""
    alike = part.meta.protocol == other.meta.protocol
    return alike and not clashing_measures(plan.measures, other_plan.measures)


def _add_clashing_measures(groups: list[list[tuple[str, ReportPart, WholePlan]]]) -> None:
    """Adds to each part's protocol the versions of the metrics that keep groups apart, for the page to show."""
    measures = [plan.measures for group in groups for *_, plan in group]
    clashing = {metric for first in measures for second in measures for metric in clashing_measures(first, second)}
    for group in groups:
        for index, (name, part, plan) in enumerate(group):
            versions = plan.measures or {}
            own = {metric: _short(versions[metric]) for metric in clashing if metric in versions}
            group[index] = (name, replace(part, meta=replace(part.meta, protocol={**part.meta.protocol, **own})), plan)


def _short(version: str) -> str:
    """A hash shortened to eight digits; any other text unchanged."""
    return version[:8] if len(version) == SHOWN else version


def run_names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of runs in a joint report: of the sweeps if they differ, else of the folders, else the paths."""
    paths = [run.path for run in runs]
    for names in ([run.whole_plan().name for run in runs], [path.name for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _joined(group: Sequence[tuple[str, ReportPart]], warnings: list[str]) -> ReportPart:
    """One part from the named parts of comparable runs; appends to `warnings`."""
    if len(group) == 1:
        return group[0][1]
    group = _without_shared(_with_distinct_names(group), warnings)
    metas = {name: part.meta for name, part in group}
    for what, values in {
        "budget": {name: f"{meta.budget_limit:g} {meta.budget_axis}" for name, meta in metas.items()},
        "target": {name: str(meta.target) for name, meta in metas.items()},
    }.items():
        if len(set(values.values())) > 1:
            shown = "; ".join(f"{name}: {value}" for name, value in values.items())
            warnings.append(f"Runs differ in {what} ({shown}): the value of the first run is used.")
    first = next(iter(metas.values()))
    descriptions = dict.fromkeys(meta.description for meta in metas.values() if meta.description)
    meta = replace(
        first,
        name=" and ".join(metas),
        description=" ".join(descriptions),
        diversity=next((meta.diversity for meta in metas.values() if meta.diversity), ""),
        target=next((meta.target for meta in metas.values() if meta.target is not None), None),
        command="\n".join(dict.fromkeys(meta.command for meta in metas.values())),
        seconds_comparable=all(meta.seconds_comparable for meta in metas.values()),
        methods={name: facts for meta in metas.values() for name, facts in meta.methods.items()},
        tuning=next((meta.tuning for meta in metas.values() if meta.tuning), None),
    )
    parts = [part for _, part in group]

    def joined_frame(name: str) -> pd.DataFrame:
        frames = [frame for part in parts if len(frame := getattr(part, name))]
        return pd.concat(frames, ignore_index=True) if frames else getattr(parts[0], name)

    pictures = [picture for part in parts for picture in part.pictures]
    return replace(parts[0], curves=joined_frame("curves"), evaluation=joined_frame("evaluation"),
                   trials=joined_frame("trials"),
                   meta=meta, pictures=pictures)  # fmt: skip


def _with_distinct_names(group: Sequence[tuple[str, ReportPart]]) -> list[tuple[str, ReportPart]]:
    """The parts with distinct variants: a name with other settings in another run is followed by the run's name."""
    first: dict[str, dict[str, str]] = {}  # variant -> identity -> the first run that has it
    own = [{str(row["variant"]): str(row["identity"]) for row in part.trials.to_dict("records")} for _, part in group]
    for (name, _), identities in zip(group, own, strict=True):
        for variant, identity in identities.items():
            first.setdefault(variant, {}).setdefault(identity, name)
    distinct = []
    for (name, part), identities in zip(group, own, strict=True):
        several = {variant: identity for variant, identity in identities.items() if len(first[variant]) > 1}
        new = {variant: f"{variant} ({first[variant][identity]})" for variant, identity in several.items()}
        distinct.append((name, _renamed(part, new)))
    return distinct


def _renamed(part: ReportPart, names: Mapping[str, str]) -> ReportPart:
    """A part with new names of some variants."""

    def rename(frame: Any) -> Any:
        return frame.assign(variant=frame["variant"].astype(object).replace(names)) if len(frame) else frame

    pictures = [replace(picture, variant=names.get(picture.variant, picture.variant)) for picture in part.pictures]
    return replace(part, curves=rename(part.curves), evaluation=rename(part.evaluation), trials=rename(part.trials),
                   pictures=pictures)  # fmt: skip


def _without_shared(group: Sequence[tuple[str, ReportPart]], warnings: list[str]) -> list[tuple[str, ReportPart]]:
    """The parts with each shared trial only in the run in which it got furthest; appends to `warnings`."""
    best: dict[str, tuple[bool, int, str]] = {}  # trial -> done, points, run
    shared = set()
    for name, part in group:
        for row in part.trials.to_dict("records"):
            reached = (row["status"] == Status.DONE, int(row.get("points") or 0), name)
            shared |= {row["trial"]} & set(best)
            if row["trial"] not in best or reached[:2] > best[row["trial"]][:2]:
                best[row["trial"]] = reached
    if shared:
        warnings.append(
            f"{len(shared)} trial{'s are' if len(shared) > 1 else ' is'} in several runs, and shown once, "
            "from the run in which it got furthest."
        )
        differing = _differing([part for _, part in group], shared)
        if differing:
            named = f"{', '.join(differing[:NAMED])}{' and others' if len(differing) > NAMED else ''}"
            warnings.append(
                f"{len(differing)} of them {'differ' if len(differing) > 1 else 'differs'} from run to run ({named}), "
                "as on another machine or by other code. bench compare sets two runs side by side."
            )
    return [
        (name, _only(part, {trial for trial, (*_, holder) in best.items() if holder == name})) for name, part in group
    ]


def _differing(parts: Sequence[ReportPart], shared: set[str]) -> list[str]:
    """The shared trials whose values differ at a point that several runs have; a NaN differs from any number."""
    frames = [part.curves[part.curves["trial"].isin(shared)] for part in parts if len(part.curves)]
    if not frames:
        return []
    rows = pd.concat(frames).assign(present=lambda rows: rows["value"].notna())
    points = rows.groupby(["trial", "point", "split", "metric"])
    ranges = points.agg(low=("value", "min"), high=("value", "max"), present=("present", "sum"), runs=("value", "size"))
    partly = (ranges["present"] > 0) & (ranges["present"] < ranges["runs"])
    close = np.isclose(ranges["low"], ranges["high"], rtol=CURVE_TOLERANCE, atol=CURVE_TOLERANCE, equal_nan=True)
    return sorted(set(ranges.index[partly | ~close].get_level_values("trial")))


def _only(part: ReportPart, trials: set[str]) -> ReportPart:
    """A part with only the named trials."""

    def select(frame: Any) -> Any:
        return frame[frame["trial"].isin(trials)] if len(frame) else frame

    chosen = {(row["variant"], row["seed"]) for row in part.trials.to_dict("records") if row["trial"] in trials}
    pictures = [picture for picture in part.pictures if (picture.variant, picture.seed) in chosen]
    return replace(part, curves=select(part.curves), evaluation=select(part.evaluation), trials=select(part.trials),
                   pictures=pictures)  # fmt: skip
