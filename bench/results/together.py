"""Several runs in one report: what can be compared stands together, what cannot stands apart, and the report says why.

Runs whose numbers stand for the same thing (reward, gold, model, prompts, evaluation) become one part with one table;
the same settings with other seeds are one method, other settings under the same name are told apart by the run's name.
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
CURVE_TOLERANCE = 1e-3
"""No figure of a report shows less."""


def grouped_parts(runs: Sequence[tuple[RunFolder, ReportPart]]) -> tuple[list[ReportPart], list[str]]:
    """The parts of a report over all runs, and what a reader must be warned of besides.

    Args:
        runs: each with what `bench.results.report.part_of` says of it.
    """
    names = run_names([run for run, _ in runs])
    groups: list[list[tuple[str, ReportPart, WholePlan]]] = []
    for name, (run, part) in zip(names, runs, strict=True):
        about = run.described()
        part = replace(part, meta=replace(part.meta, name=name))
        found = next((group for group in groups if all(_alike(part, about, *other[1:]) for other in group)), None)
        if found is None:
            groups.append(found := [])
        found.append((name, part, about))
    if len(groups) > 1:
        _tell_measures(groups)
    warnings: list[str] = []
    return [_joined([(name, part) for name, part, _ in group], warnings) for group in groups], warnings


def _alike(part: ReportPart, plan: WholePlan, other: ReportPart, other_plan: WholePlan) -> bool:
    alike = part.meta.protocol == other.meta.protocol
    return alike and not clashing_measures(plan.measures, other_plan.measures)


def _tell_measures(groups: list[list[tuple[str, ReportPart, WholePlan]]]) -> None:
    """Adds to each protocol in words the metrics that keep groups apart, so that the page can say so."""
    measures = [about.measures for group in groups for *_, about in group]
    clashing = {metric for first in measures for second in measures for metric in clashing_measures(first, second)}
    for group in groups:
        for place, (name, part, about) in enumerate(group):
            known = about.measures or {}
            own = {metric: _short(known[metric]) for metric in clashing if metric in known}
            group[place] = (name, replace(part, meta=replace(part.meta, protocol={**part.meta.protocol, **own})), about)


def _short(version: str) -> str:
    """A hash by its beginning, a word whole."""
    return version[:8] if len(version) == SHOWN else version


def run_names(runs: Sequence[RunFolder]) -> list[str]:
    """What the runs are called in one report: by sweep, by folder where two have one, else by path."""
    paths = [run.path for run in runs]
    for names in ([run.described().name for run in runs], [path.name for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _joined(group: Sequence[tuple[str, ReportPart]], warnings: list[str]) -> ReportPart:
    if len(group) == 1:
        return group[0][1]
    group = _without_shared(_told_apart(group), warnings)
    metas = {name: part.meta for name, part in group}
    for what, values in {
        "budget": {name: f"{meta.budget_limit:g} {meta.budget_axis}" for name, meta in metas.items()},
        "target": {name: str(meta.target) for name, meta in metas.items()},
    }.items():
        if len(set(values.values())) > 1:
            shown = "; ".join(f"{name}: {value}" for name, value in values.items())
            warnings.append(f"Runs differ in {what} ({shown}): the first that is given is used.")
    first = next(iter(metas.values()))
    described = dict.fromkeys(meta.description for meta in metas.values() if meta.description)
    meta = replace(
        first,
        name=" and ".join(metas),
        description=" ".join(described),
        diversity=next((meta.diversity for meta in metas.values() if meta.diversity), ""),
        target=next((meta.target for meta in metas.values() if meta.target is not None), None),
        command="\n".join(dict.fromkeys(meta.command for meta in metas.values())),
        seconds_comparable=all(meta.seconds_comparable for meta in metas.values()),
        methods={name: facts for meta in metas.values() for name, facts in meta.methods.items()},
        tuning=next((meta.tuning for meta in metas.values() if meta.tuning), None),
    )
    parts = [part for _, part in group]

    def together(name: str) -> pd.DataFrame:
        frames = [frame for part in parts if len(frame := getattr(part, name))]
        return pd.concat(frames, ignore_index=True) if frames else getattr(parts[0], name)

    pictures = [picture for part in parts for picture in part.pictures]
    return replace(parts[0], curves=together("curves"), evaluation=together("evaluation"), trials=together("trials"),
                   meta=meta, pictures=pictures)  # fmt: skip


def _told_apart(group: Sequence[tuple[str, ReportPart]]) -> list[tuple[str, ReportPart]]:
    """A variant's name followed by its run's where another run means other settings by it."""
    first: dict[str, dict[str, str]] = {}  # variant -> identity -> the run that has it first
    own = [{str(row["variant"]): str(row["identity"]) for row in part.trials.to_dict("records")} for _, part in group]
    for (name, _), identities in zip(group, own, strict=True):
        for variant, identity in identities.items():
            first.setdefault(variant, {}).setdefault(identity, name)
    apart = []
    for (name, part), identities in zip(group, own, strict=True):
        several = {variant: identity for variant, identity in identities.items() if len(first[variant]) > 1}
        new = {variant: f"{variant} ({first[variant][identity]})" for variant, identity in several.items()}
        apart.append((name, _renamed(part, new)))
    return apart


def _renamed(part: ReportPart, names: Mapping[str, str]) -> ReportPart:
    def rename(frame: Any) -> Any:
        return frame.assign(variant=frame["variant"].astype(object).replace(names)) if len(frame) else frame

    pictures = [replace(picture, variant=names.get(picture.variant, picture.variant)) for picture in part.pictures]
    return replace(part, curves=rename(part.curves), evaluation=rename(part.evaluation), trials=rename(part.trials),
                   pictures=pictures)  # fmt: skip


def _without_shared(group: Sequence[tuple[str, ReportPart]], warnings: list[str]) -> list[tuple[str, ReportPart]]:
    """A trial that several runs have, from the run in which it got furthest."""
    best: dict[str, tuple[bool, int, str]] = {}
    shared = set()
    for name, part in group:
        for row in part.trials.to_dict("records"):
            here = (row["status"] == Status.DONE, int(row.get("points") or 0), name)
            shared |= {row["trial"]} & set(best)
            if row["trial"] not in best or here[:2] > best[row["trial"]][:2]:
                best[row["trial"]] = here
    if shared:
        warnings.append(
            f"{len(shared)} trial{'s are' if len(shared) > 1 else ' is'} in several runs, and shown once, "
            "from the run in which it got furthest."
        )
        unlike = _unlike([part for _, part in group], shared)
        if unlike:
            named = f"{', '.join(unlike[:NAMED])}{' and others' if len(unlike) > NAMED else ''}"
            warnings.append(
                f"{len(unlike)} of them {'differ' if len(unlike) > 1 else 'differs'} from run to run ({named}), as on "
                "another machine or by other code. bench compare sets two runs side by side."
            )
    return [
        (name, _only(part, {trial for trial, (*_, holder) in best.items() if holder == name})) for name, part in group
    ]


def _unlike(parts: Sequence[ReportPart], shared: set[str]) -> list[str]:
    """The shared trials whose values differ at a point that several runs have; a NaN is unlike any number."""
    frames = [part.curves[part.curves["trial"].isin(shared)] for part in parts if len(part.curves)]
    if not frames:
        return []
    rows = pd.concat(frames).assign(known=lambda rows: rows["value"].notna())
    points = rows.groupby(["trial", "point", "split", "metric"])
    found = points.agg(low=("value", "min"), high=("value", "max"), known=("known", "sum"), runs=("value", "size"))
    partly = (found["known"] > 0) & (found["known"] < found["runs"])
    close = np.isclose(found["low"], found["high"], rtol=CURVE_TOLERANCE, atol=CURVE_TOLERANCE, equal_nan=True)
    return sorted(set(found.index[partly | ~close].get_level_values("trial")))


def _only(part: ReportPart, trials: set[str]) -> ReportPart:
    def keep(frame: Any) -> Any:
        return frame[frame["trial"].isin(trials)] if len(frame) else frame

    kept = {(row["variant"], row["seed"]) for row in part.trials.to_dict("records") if row["trial"] in trials}
    pictures = [picture for picture in part.pictures if (picture.variant, picture.seed) in kept]
    return replace(part, curves=keep(part.curves), evaluation=keep(part.evaluation), trials=keep(part.trials),
                   pictures=pictures)  # fmt: skip
