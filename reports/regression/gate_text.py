"""The gate's verdict as tables for a terminal, Markdown for a pull request, JUnit XML and JSON."""

import dataclasses
import re
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from reports.formatting import NOTHING, measured, p_value
from reports.regression.units import Unit, change, unit_of
from reports.regression.verdict import (
    FAILED,
    IDENTICAL,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    REGRESSION,
    SEVERITY,
    SHOWN,
    RunVerdict,
    StatisticVerdict,
)
from reports.statistics.evidence import CROSSED_COVERAGE
from reports.tables.table import Table
from reports.writers.markdown import escaped, table_markdown

_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold; a trial's cause may contain a terminal's colour codes."""

MARKS = {REGRESSION: "❌", FAILED: "❌", NOT_COMPARABLE: "⚠️", INCONCLUSIVE: "⚠️"}
PROMPTS_SHOWN = 3


def summary_table(verdict: RunVerdict) -> Table:
    """The table of methods: verdict and reason."""
    rows = [{"method": m.variant, "verdict": m.verdict, "why": m.reason} for m in verdict.methods]
    cells = pd.DataFrame(rows, columns=["method", "verdict", "why"])
    return Table(verdict.name, cells, text=("method", "verdict", "why"))


def findings_table(verdict: RunVerdict) -> Table:
    """The table of statistics: baseline, run, loss with its uncertainty, tolerance, p, verdict."""
    rows = []
    for method in verdict.methods:
        for finding in method.findings:
            unit = unit_of(finding)
            rows.append(
                {
                    "method": method.variant,
                    "statistic": unit.label(finding.words) + (" *" if finding.primary else ""),
                    "baseline": unit.text(finding.baseline),
                    "run": f"{'≥ ' if finding.bound else ''}{unit.text(finding.run)}",
                    "loss": _loss(finding, unit),
                    "tolerance": unit.text(finding.tolerance),
                    "p": _p(finding),
                    "would show": unit.text(finding.detects) if finding.detects is not None else "",
                    "verdict": finding.verdict,
                }
            )
    columns = ["method", "statistic", "baseline", "run", "loss", "tolerance", "p", "would show", "verdict"]
    cells = pd.DataFrame(rows, columns=columns)
    return Table("Statistics", cells, _note(verdict), ("method", "statistic", "verdict"), grouped="method")


def details(verdict: RunVerdict) -> list[str]:
    """Further notes on the verdict, a sentence each."""
    lines = list(verdict.notes)
    for method in verdict.methods:
        lines += [f"{method.variant}: {note[:1].lower()}{note[1:]}" for note in method.notes]
        worst = [(prompt, loss) for prompt, loss in method.prompts.items() if loss > 0][:PROMPTS_SHOWN]
        if method.verdict == REGRESSION and worst:
            text = ", ".join(f"{prompt} ({measured(-loss, signed=True)})" for prompt, loss in worst)
            lines.append(f"{method.variant} lost most on: {text}.")
        if method.crossed is not None and method.verdict != IDENTICAL:
            lines.append(f"{method.variant}: {_crossed(method.crossed)}")
    return lines


def to_markdown(verdict: RunVerdict) -> str:
    """The verdict as Markdown for a pull request; the statistics are folded away where the run passed."""
    mark = MARKS.get(verdict.verdict, "✅")
    parts = [f"## {mark} {escaped(verdict.name)}: {verdict.verdict}", escaped(verdict.reason)]
    if verdict.methods:
        parts.append(table_markdown(summary_table(verdict)).split("\n\n", 1)[1])
    if any(method.findings for method in verdict.methods):
        body = table_markdown(findings_table(verdict), 3).split("\n\n", 1)[1]
        opened = "" if verdict.passed else " open"
        parts.append(
            f"<details{opened}><summary>Statistics ({escaped(verdict.reward)})</summary>\n\n{body}\n\n</details>"
        )
    parts += [f"- {escaped(line)}" for line in details(verdict)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(verdict: RunVerdict) -> dict[str, Any]:
    """The verdict as plain data."""
    return dataclasses.asdict(verdict) | {"passed": verdict.passed}


def to_junit(verdict: RunVerdict) -> str:
    """The verdict as JUnit XML, a test case for each gated statistic.

    A regression is a failure; a statistic that could not be judged is an error.
    """
    suite = ElementTree.Element("testsuite", name=f"bench check {verdict.name}")
    if not verdict.methods:
        _case(suite, verdict.name, "protocol", verdict.verdict, verdict.reason)
    for method in verdict.methods:
        where = f"{verdict.name}.{method.variant}"
        gated = [finding for finding in method.findings if finding.verdict != SHOWN]
        for finding in gated:
            text = finding.verdict
            if text == INCONCLUSIVE and method.verdict != INCONCLUSIVE:
                text = method.verdict if method.verdict not in SEVERITY else text
            _case(suite, where, finding.words, text, change(finding))
        if not gated or (method.verdict in SEVERITY and all(f.verdict not in SEVERITY for f in gated)):
            _case(suite, where, "trials" if not gated else "curves", method.verdict, method.reason)
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", str(sum(case.find("error") is not None for case in cases)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, where: str, name: str, verdict: str, message: str) -> None:
    where, name, message = (_CONTROL.sub("�", text) for text in (where, name, message))
    case = ElementTree.SubElement(suite, "testcase", classname=where, name=name)
    if verdict in SEVERITY:
        kind = "failure" if verdict == REGRESSION else "error"
        ElementTree.SubElement(case, kind, type=verdict, message=message).text = f"{verdict}: {message}"


def _loss(finding: StatisticVerdict, unit: Unit) -> str:
    text = unit.text(finding.loss)
    interval = finding.evidence.interval
    if interval is not None and interval[0] != interval[1]:
        text += f" ± {unit.text((interval[1] - interval[0]) / 2)}"
    return text


def _p(finding: StatisticVerdict) -> str:
    if finding.adjusted is None:
        return ""
    if finding.evidence.test == "none":
        return NOTHING
    return p_value(finding.adjusted)


def crossed_note() -> str:
    """The simulated coverage of the crossed bootstrap's nominal 95 %, in brackets."""
    text = [f"{100 * share:.0f} % with {count} seeds" for count, share in CROSSED_COVERAGE.items()]
    return f" (nominal 95 %; simulated coverage {', '.join(text)})"


def _crossed(crossed: tuple[float, float]) -> str:
    low, high = (measured(value, signed=True) for value in crossed)
    return f"loss {low} to {high} by a bootstrap of seeds and prompts as crossed factors{crossed_note()}."


def _note(verdict: RunVerdict) -> str:
    tests = {finding.evidence.test for method in verdict.methods for finding in method.findings if finding.primary}
    text = {
        "paired": "a t-test on each seed's difference, same prompts and noise",
        "pooled": "a two-sample t-test over seeds, same prompts and noise",
    }
    power = f"{100 * verdict.power:g} % power"
    by = " or ".join(text for test, text in text.items() if test in tests) or "no test"
    return (
        "Means over seeds. A loss above zero is worse; ± is half of the 95 % Student-t interval, from five seeds on. "
        f"p: {by}, adjusted by Holm's procedure over methods and statistics. * carries most of α. "
        f"Would show: the loss that these seeds show with {power}, by the baseline's own spread."
    )
