"""The `bench` command: its verbs, in the order in which a person uses them, its exit codes and its error messages."""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from bench import console, stopping
from bench.authors import place_of
from bench.errors import BAD_INPUT, DISK_FULL, GOOD, INTERNAL_ERROR, INTERRUPTED, BenchError, cause_of, disk_full

WRONG_PLACE = (IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError)
"""Errors of a path that the user can mend: it is of another kind than expected, or access to it is denied."""

VERBS = {
    "run": "Run a sweep: train, evaluate, report.",
    "plan": "List a sweep's trials and their cost; run nothing.",
    "status": "Show the status of a run's trials.",
    "report": "Write a run's comparison report.",
    "compare": "Compare two runs, method by method.",
    "check": "Check a run against a baseline: the gate for CI.",
    "baseline": "Save, show or update a baseline.",
    "history": "Find where a figure changed over many results.",
    "merge": "Make one run of several machines' runs.",
    "test": "Check a method against the contract.",
    "list": "List methods, rewards, models, prompts or sweeps.",
    "weights": "List, fetch or check the weights of rewards and models.",
    "doctor": "Check the installation.",
}


class Verbs(click.Group):
    """The group of verbs. A verb's module is imported when the verb is called, so `bench --help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return import_module(f"bench.commands.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from bench.sweep.overlay import suggestion

            hint = suggestion(args[0], list(VERBS)) or f"there are {', '.join(VERBS)}"
            raise BenchError(f"there is no verb {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 good, 1 regression, 2 bad input, 3 trials failed or not uploaded, 4 not comparable, "
    "5 internal error, 130 interrupted.",
)
@click.version_option(package_name="alignprop-bench", prog_name="bench")
def bench() -> None:
    """Compare ways of aligning text-to-image diffusion models with a reward.

    First look, about a minute: bench run quickstart
    """


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit code and never raises.

    An error is written to standard error. With `--json` it is also written to standard output, as an object with
    `error` (the first line), `problems` (every line) and `exit_code`.
    """
    with stopping.listening():
        return _run_command(arguments)


def _run_command(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    try:
        result = bench.main(list(arguments), prog_name="bench", standalone_mode=False)
        code = result if isinstance(result, int) else GOOD
        return _interrupted(debug) if stopping.requests() and code != INTERRUPTED else code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(debug)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has closed the pipe, as `head` does
        return GOOD
    except Exception as error:
        if stopping.requests():  # a library may have turned KeyboardInterrupt into another exception
            return _interrupted(debug)
        problem, code = _explained(error)
        if debug and not isinstance(error, click.ClickException):
            traceback.print_exc()
        console.error(problem)
        if "--json" in arguments:
            lines = problem.lines()
            console.say_json({"error": lines[0], "problems": lines, "exit_code": code})
        return code


def _explained(error: Exception) -> tuple[BenchError, int]:
    """The exception as an error that a person can act on, and its exit code."""
    if isinstance(error, BenchError):
        return error, error.exit_code
    if isinstance(error, click.UsageError):
        return BenchError(error.format_message(), do=_usage(error)), BAD_INPUT
    if isinstance(error, click.ClickException):
        return BenchError(error.format_message()), BAD_INPUT
    if disk_full(error):
        where = getattr(error, "filename", None)
        do = "free some space and run the same command again to continue"
        return BenchError(DISK_FULL, str(where) if where else None, do), BAD_INPUT
    if isinstance(error, WRONG_PLACE) and error.filename:
        do = "mend or move it, and run the same command again"
        return BenchError(f"cannot be used ({error.strerror})", str(error.filename2 or error.filename), do), BAD_INPUT
    if place_of(error):
        return BenchError(
            f"the code of a method or reward failed: {cause_of(error)}", do="--debug shows the traceback"
        ), BAD_INPUT
    do = "this is a defect of the harness; please report it with the traceback that --debug shows"
    return BenchError(f"internal error: {cause_of(error)}", do=do), INTERNAL_ERROR


def _interrupted(debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        traceback.print_exc()
    console.note(f"{'interrupted' if stopping.requests() < 2 else 'stopped at once'}; {stopping.AGAIN}")
    return INTERRUPTED


def _usage(error: click.UsageError) -> str | None:
    return f"`{error.ctx.command_path} --help` shows how it is used" if error.ctx else None


def main() -> None:
    """Runs the command line of this process and exits with its code; the console script `bench`."""
    sys.exit(run_command(sys.argv[1:]))
