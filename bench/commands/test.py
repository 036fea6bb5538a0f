"""`bench test`: checks a method against the contract of methods."""

import sys
import time
from typing import Any

import click

from bench import console
from bench.commands.shared import debug_option, json_option
from bench.errors import GOOD, REGRESSION, BenchError

STYLES = {"pass": "green", "fail": "red", "does not apply": "dim"}


@click.command("test", short_help="Check a method against the contract.")
@click.argument("method")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the tested method, e.g. batch_size=4."
)
@json_option
@debug_option
def command(method: str, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check METHOD (a name, module:Class or file.py:Class) against the contract, on a random tiny model.

    Exits with 1 if a check fails.
    """
    from bench.conformance.suite import method_class, run_checks
    from bench.plan.preflight import check_requirements

    begun = time.perf_counter()
    cls = method_class(method)
    check_requirements(cls)
    settings = _settings(overrides)
    records = []
    for record in run_checks(cls, settings):
        records.append(record)
        if not as_json:
            _print_record(record)
    failures = [record for record in records if record.outcome == "fail"]
    seconds = time.perf_counter() - begun
    if as_json:
        rows = [
            {"check": f.check, "outcome": f.outcome, "reason": f.reason, "seconds": round(f.seconds, 3)}
            for f in records
        ]
        console.say_json({"method": cls.name, "passed": not failures, "seconds": round(seconds, 3), "checks": rows})
    else:
        counts = [f"{sum(f.outcome == outcome for f in records)} {text}" for outcome, text in _OUTCOME_TEXTS.items()]
        console.say(f"{cls.name}: {', '.join(counts)}, in {seconds:.1f} s")
    return REGRESSION if failures else GOOD


_OUTCOME_TEXTS = {"pass": "passed", "fail": "failed", "does not apply": "do not apply"}


def _print_record(record: Any) -> None:
    from bench.conformance.suite import MARKS

    mark = MARKS[record.outcome]
    if not sys.stdout.isatty():
        console.say(f"{mark} {record.check:<14} {record.reason}")
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    terminal = Console(highlight=False)
    terminal.print(Text.assemble((f"{mark} {record.check}", STYLES[record.outcome]), f"  {record.seconds:.1f} s"))
    terminal.print(Padding(Text(record.reason, style="" if record.outcome == "fail" else "dim"), (0, 0, 0, 2)))


def _settings(overrides: tuple[str, ...]) -> dict[str, Any]:
    from bench.sweep.yaml_source import parse

    settings = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BenchError(f"{text!r} is not KEY=VALUE", "--set", "for example --set batch_size=4")
        settings[key.strip()] = parse(value, f"--set {text}", numbered=False).plain()
    return settings
