"""What a trial's status means: the one list of statuses, and the questions that the rest of the harness asks of it."""

from enum import StrEnum


class Status(StrEnum):
    """How a trial stands, as `trial.json` records it. A member is its own word: files and tables keep the string.

    The order is that in which counts of trials are listed.
    """

    DONE = "done"
    """Trained to the end of its budget, or to one of its stops."""
    RUNNING = "running"
    """A process trains it and sends heartbeats; without them it reads as interrupted."""
    FAILED = "failed"
    """Ended by an error, after as many attempts as the sweep allows."""
    DIVERGED = "diverged"
    """Ended because images, a loss or a gradient were not finite."""
    INTERRUPTED = "interrupted"
    """Stopped by the user, by a lost process, or by a damaged file; the same `bench run` continues it."""
    SKIPPED = "skipped"
    """Not begun, as something that its method requires is not installed; runs once it is."""
    PRUNED = "pruned"
    """Stopped early by a search, which needed no more of it."""
    PLANNED = "planned"
    """Listed in the plan, and not begun."""

    @property
    def settled(self) -> bool:
        """Whether another run of the same trial would only repeat what is stored."""
        return self in (Status.DONE, Status.DIVERGED, Status.PRUNED)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes from the trial in this run.

        An interrupted trial has not ended: one whose heartbeats were late may be heard of again.
        """
        return self.settled or self in (Status.FAILED, Status.SKIPPED)

    @property
    def stopped(self) -> bool:
        """Whether the trial came to a stop short of its end; its record then has a cause that a person can act on."""
        return self.broken or self in (Status.SKIPPED, Status.PRUNED)

    @property
    def broken(self) -> bool:
        """Whether the trial stopped because something went wrong; skipped and pruned trials were meant to stop."""
        return self in (Status.FAILED, Status.DIVERGED, Status.INTERRUPTED)

    @property
    def left_to_run(self) -> bool:
        """Whether a `bench run` that is at work still has the trial to train or to continue."""
        return self in (Status.PLANNED, Status.RUNNING, Status.INTERRUPTED)

    @property
    def style(self) -> str:
        """The style in which a terminal shows the word (see `bench.console.as_table`)."""
        return _STYLES.get(self, "dim")


_STYLES = {
    Status.DONE: "green",
    Status.RUNNING: "cyan",
    Status.FAILED: "red",
    Status.DIVERGED: "red",
    Status.INTERRUPTED: "yellow",
}
