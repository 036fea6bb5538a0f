"""The statuses of a trial, and what each of them means for the rest of the harness."""

from enum import StrEnum


class Status(StrEnum):
    """The status of a trial, as `trial.json` records it; files and tables hold the member's string.

    Counts of trials are listed in the order of the members.
    """

    DONE = "done"
    """Trained to the end of its budget, or to one of its stops."""
    RUNNING = "running"
    """A process trains the trial and sends heartbeats; without them, the trial reads as interrupted."""
    FAILED = "failed"
    """Ended by an error, after as many attempts as the sweep allows."""
    DIVERGED = "diverged"
    """Ended because images, a loss or a gradient were not finite."""
    INTERRUPTED = "interrupted"
    """Stopped by the user, the loss of its process, or a damaged file; the same `bench run` continues it."""
    SKIPPED = "skipped"
    """Not begun, because a package that its method requires is not installed, or gold chose no settings for it."""
    PRUNED = "pruned"
    """Stopped early by a search that preferred other trials."""
    PLANNED = "planned"
    """Listed in the plan, and not begun."""

    @property
    def settled(self) -> bool:
        """Whether training the trial again would only reproduce the stored result."""
        return self in (Status.DONE, Status.DIVERGED, Status.PRUNED)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes from the trial in this run.

        An interrupted trial has not ended: if its heartbeats were merely late, it goes on.
        """
        return self.settled or self in (Status.FAILED, Status.SKIPPED)

    @property
    def stopped(self) -> bool:
        """Whether the trial stopped before its end; its record then has a cause that a person can act on."""
        return self.broken or self in (Status.SKIPPED, Status.PRUNED)

    @property
    def broken(self) -> bool:
        """Whether the trial stopped because something went wrong, unlike skipped and pruned trials."""
        return self in (Status.FAILED, Status.DIVERGED, Status.INTERRUPTED)

    @property
    def left_to_run(self) -> bool:
        """Whether a `bench run` that is at work still has the trial to train or to continue."""
        return self in (Status.PLANNED, Status.RUNNING, Status.INTERRUPTED)

    @property
    def style(self) -> str:
        """The terminal style of the status (see `bench.console.as_table`)."""
        return _STYLES.get(self, "dim")


_STYLES = {
    Status.DONE: "green",
    Status.RUNNING: "cyan",
    Status.FAILED: "red",
    Status.DIVERGED: "red",
    Status.INTERRUPTED: "yellow",
}
