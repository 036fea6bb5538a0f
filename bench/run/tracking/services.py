"""W&B, MLflow and Trackio through accelerate's trackers; only ever in a process of their own (`follow.py`)."""

import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bench.build.trial_spec import Trial
from bench.run.tracking.points import configuration
from bench.store.trial_folder import TrialFolder


class Service(Protocol):
    """One trial's run at a service. `id` is what another process needs to continue it.

    A service that is asked to continue a run which it does not know begins another, and has that one's `id`.
    """

    id: str

    def tell(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        """Logs one point: its numbers, and pictures as tag -> PNG file."""

    def finish(self, good: bool) -> None:
        """Ends the run; `good` where the trial is done."""


class Wandb:
    """Weights & Biases: a run a trial, grouped by sweep."""

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        from accelerate.tracking import WandBTracker

        options = _options(trial, "wandb")
        self.id = known or uuid.uuid4().hex
        self.tracker = WandBTracker(
            options.pop("project", trial.sweep),
            **{"group": trial.sweep, **options},
            name=folder.key,
            id=self.id,
            resume="allow",
            dir=str(folder.path / "tracking"),
            config=configuration(trial),
            settings={"console": "off", "silent": True},
        )
        _started(self.tracker)

    def tell(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        from PIL import Image

        self.tracker.log_images({tag: [Image.open(path)] for tag, path in samples.items()}, step=step)
        self.tracker.log(numbers, step=step)

    def finish(self, good: bool) -> None:
        self.tracker.tracker.finish(exit_code=0 if good else 1)


class Mlflow:
    """MLflow: an experiment a sweep, a run a trial; in the run's folder unless a server is named.

    What is in the run's folder stays on its machine (see `bench.store.remote.manifest.belongs`). A trial that goes on
    elsewhere begins another run in the database there.
    """

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        from accelerate.tracking import MLflowTracker
        from filelock import FileLock

        options = _options(trial, "mlflow")
        run = folder.path.parents[1]
        server = options.pop("tracking_uri", None) or os.environ.get("MLFLOW_TRACKING_URI")
        os.environ["MLFLOW_TRACKING_URI"] = server or f"sqlite:///{run / 'mlflow.db'}"
        # Trials that begin together would each create the database and the experiment.
        with FileLock(run / ".mlflow.lock"):
            continued = known if known is not None and self._has(known) else None
            self.tracker = MLflowTracker(
                **{"experiment_name": trial.sweep, **options},
                logging_dir=None if server else (run / "mlflow").as_uri(),
                run_id=continued,
                run_name=folder.key,
            )
            _started(self.tracker)
        self.id = self.tracker.tracker.info.run_id
        if continued is None:
            self.tracker.store_init_configuration(configuration(trial))

    def tell(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        for path in samples.values():
            self.tracker.log_artifact(str(path), f"samples/{path.parent.name}")
        # MLflow refuses other characters in a name; a sum's reward is called a+b.
        self.tracker.log({re.sub(r"[^\w./ -]", "-", name): value for name, value in numbers.items()}, step=step)

    def finish(self, good: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if good else "FAILED")

    @staticmethod
    def _has(run: str) -> bool:
        import mlflow
        from mlflow.exceptions import MlflowException

        try:
            mlflow.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise  # the server is away: the run may well be there
        return True


class Trackio:
    """Trackio: a project a sweep, a run a trial."""

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        from accelerate.tracking import TrackioTracker

        options = _options(trial, "trackio")
        # A name is all that Trackio knows a run by.
        self.id = known or f"{folder.key}-{uuid.uuid4().hex[:6]}"
        self.tracker = TrackioTracker(
            options.pop("project", trial.sweep),
            **{"group": trial.sweep, **options},
            name=self.id,
            resume="allow",
            config=configuration(trial),
            embed=False,
        )
        _started(self.tracker)

    def tell(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        import trackio

        shown: dict[str, Any] = {tag: trackio.Image(str(path)) for tag, path in samples.items()}
        self.tracker.log({**numbers, **shown}, step=step)

    def finish(self, good: bool) -> None:
        self.tracker.finish()


SERVICES: dict[str, Callable[[Trial, TrialFolder, str | None], Service]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


def _options(trial: Trial, name: str) -> dict[str, Any]:
    return trial.track.services[name].model_dump(mode="json", exclude_none=True)


def _started(tracker: Any) -> None:
    from accelerate import PartialState

    PartialState(cpu=True)  # accelerate's trackers log through it; here it is this process's alone
    tracker.start()
