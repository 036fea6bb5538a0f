"""The errors of the harness, their exit codes, and the causes that tables show.

Every error that a person can act on is a `BenchError`: what is wrong, where, what to do, in one to three lines. The
command line prints it without a traceback; any other exception is an internal error (exit code 5).
"""

import errno
import re

from bench.authors import place_of

GOOD = 0
REGRESSION = 1
BAD_INPUT = 2
TRIALS_FAILED = 3
NOT_COMPARABLE = 4
INTERNAL_ERROR = 5
INTERRUPTED = 130

DISK_FULL = "the disk is full (No space left on device)"


class BenchError(Exception):
    """An error that a person can act on.

    Args:
        what: the problem, with the offending value.
        where: the place of the problem: a file, `file:line`, a key or an option.
        do: the remedy; None if the problem names it already.
    """

    exit_code = BAD_INPUT

    def __init__(self, what: str, where: str | None = None, do: str | None = None):
        self.what, self.where, self.do = what, where, do
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The lines to print: place and problem first, then the remedy."""
        first = f"{self.where}: {self.what}" if self.where else self.what
        lines = [first, self.do] if self.do else [first]
        return [one_line(line) for line in lines]

    def __reduce__(self) -> tuple:
        return type(self), (self.what, self.where, self.do)


class InvalidSweepError(BenchError):
    """A sweep with problems: one line for each, in the order of the file.

    Args:
        problems: complete sentences that begin with `file:line: key`.
    """

    def __init__(self, problems: list[str]):
        self.problems = sorted(dict.fromkeys(problems), key=_line_number)
        super().__init__(self.problems[0])

    def lines(self) -> list[str]:
        return [one_line(problem) for problem in self.problems]

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,)


class LockedError(BenchError):
    """Another process is writing the same run, trial or file."""


class NotComparableError(BenchError):
    """A comparison of numbers that were measured under different protocols."""

    exit_code = NOT_COMPARABLE


class TrialsFailedError(BenchError):
    """The command needs finished trials, and some failed or were not run."""

    exit_code = TRIALS_FAILED


class Diverged(Exception):  # noqa: N818  # named as the status it leads to
    """A trial's loss, reward or weights are no longer finite. The trial's row shows the message as its cause."""


def _line_number(problem: str) -> float:
    """The line of a problem in its file; infinity for a problem without one, such as an option, which sorts last."""
    found = re.match(r".*?:(\d+): ", problem)
    return int(found[1]) if found else float("inf")


def one_line(text: str, limit: int = 400) -> str:
    """`text` on one line of at most `limit` printable characters, as a value from a file may hold anything."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class WorkerError(RuntimeError):
    """One of a trial's worker processes failed; the message is what `cause_of` returned there."""


def ran_out_of_memory(cause: str) -> bool:
    """Whether a cause (see `cause_of`) says that a process ran out of GPU or host memory."""
    return re.search(r"MemoryError|out of memory|can't allocate memory|not enough memory", cause) is not None


def disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one of its causes, says that the disk or the user's quota on it is full."""
    while error is not None:
        # A library that is not written in Python gives the error number in its message only.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def cause_of(error: BaseException) -> str:
    """An exception as one line for a table, with the line of the plug-in author's code at which it arose."""
    if disk_full(error):
        return f"{DISK_FULL}; free some space and run the sweep again to continue"
    message = one_line(str(error), 240)
    if isinstance(error, WorkerError):
        return message
    place = place_of(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{text} ({place})" if place else text
