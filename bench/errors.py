"""What can go wrong, and the exit code that says so.

Every error a person can act on is a `BenchError`: what is wrong, where, what to do, in one to three lines. The command
line prints it without a traceback; anything else is an internal error (exit code 5).
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

MAX_LINES = 3
"""Of an error; a sweep with several problems has a line for each."""

DISK_FULL = "the disk is full (No space left on device)"


class BenchError(Exception):
    """What is wrong, where, and what to do about it.

    Args:
        what: the problem, with the offending value.
        where: a file, `file:line`, a key or an option.
        do: what the reader can do; left out where the problem says it.
    """

    exit_code = BAD_INPUT

    def __init__(self, what: str, where: str | None = None, do: str | None = None):
        self.what, self.where, self.do = what, where, do
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """At most `MAX_LINES` lines, each on its own meaningful."""
        first = f"{self.where}: {self.what}" if self.where else self.what
        lines = [first, self.do] if self.do else [first]
        return [one_line(line) for line in lines]

    def __reduce__(self) -> tuple:
        return type(self), (self.what, self.where, self.do)


class InvalidSweepError(BenchError):
    """One or several problems in a sweep: a line for each, in the order of the file.

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
    """Another process is writing there."""


class NotComparableError(BenchError):
    """Numbers that stand for different things were to be put together."""

    exit_code = NOT_COMPARABLE


class TrialsFailedError(BenchError):
    """What was asked needs trials that are done, and some are not."""

    exit_code = TRIALS_FAILED


class Diverged(Exception):  # noqa: N818  # named as the status it leads to
    """A trial's loss, reward or weights are no longer finite. The message is the cause its row shows."""


def _line_number(problem: str) -> float:
    """Where in its file a problem stands; what has no line, such as an option, comes last."""
    found = re.match(r".*?:(\d+): ", problem)
    return int(found[1]) if found else float("inf")


def one_line(text: str, limit: int = 400) -> str:
    """`text` on one line, cut where it is very long: a value from a file may be anything."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class WorkerError(RuntimeError):
    """One of a trial's worker processes failed; the message is what `cause_of` said there."""


def ran_out_of_memory(cause: str) -> bool:
    """Whether a cause (see `cause_of`) tells of a GPU's or the host's memory, in whichever process it ran out."""
    return re.search(r"MemoryError|out of memory|can't allocate memory|not enough memory", cause) is not None


def disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that there is no space left, or no more of the quota."""
    while error is not None:
        # Libraries in other languages keep the number in their text only.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def cause_of(error: BaseException) -> str:
    """An exception as one line that a table can show, with the place in own code that it arose at."""
    if disk_full(error):
        return f"{DISK_FULL}; free some space and run the sweep again to continue"
    message = one_line(str(error), 240)
    if isinstance(error, WorkerError):
        return message
    place = place_of(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{text} ({place})" if place else text
