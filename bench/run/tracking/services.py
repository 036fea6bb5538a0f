"""The trackers: TensorBoard's event files, and the services W&B, MLflow and Trackio.

Each process of a trial makes its tracker once, with the id of an earlier process's run (`known`) or None.
The attribute `id` names the run, by which another process continues it; it differs from `known` if the tracker has lost
that run, and is None if the tracker always begins anew. `log(step, numbers, samples)` logs the numbers of a point and
its samples, tag -> PNG file. `finish(good)` ends the run; `good` is whether the trial is done.
"""

import os
import re
import time
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock
from PIL import Image

from bench.build.trial_spec import Trial
from bench.run.tracking.points import configuration
from bench.store.trial_folder import TrialFolder


class EventFiles:
    """TensorBoard's event files, one for each trial, which a resumed trial writes anew.

    `tensorboard --logdir runs/NAME/trials` shows them.
    """

    id = None

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None = None):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import hparams

        place = folder.path / "tensorboard"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = EventsWriter(str(place / "events"))
        self.begun = time.time()
        for summary in hparams(configuration(trial), {f"{split}/reward": None for split in trial.evaluated}):
            self._write(summary)

    def log(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        for tag, path in samples.items():
            with Image.open(path) as image:  # for its size only: the PNG file is copied
                width, height = image.size
            shown = Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3, width=width, height=height)
            values.append(Summary.Value(tag=tag, image=shown))
        # The trial's own clock stands still while the trial is interrupted.
        self._write(Summary(value=values), step, numbers.get("cost/wall_seconds", 0.0))

    def finish(self, good: bool) -> None:
        self.writer.close()

    def _write(self, summary: object, step: int = 0, seconds: float = 0.0) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self.writer.write_event(Event(step=step, wall_time=self.begun + seconds, summary=summary))
        self.writer.flush()


class WandbTracker:
    """Weights & Biases: one run for each trial, in the sweep's group."""

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        import wandb

        self.id = known or uuid.uuid4().hex
        settings = {"console": "off", "silent": True}
        self._begin(wandb, trial, name=folder.key, id=self.id, dir=str(folder.path / "tracking"), settings=settings)

    def _begin(self, library: Any, trial: Trial, **options: Any) -> None:
        named = {"project": trial.sweep, "group": trial.sweep, **_options(trial, library.__name__)}
        self.picture = library.Image
        self.run = library.init(**named, resume="allow", config=configuration(trial), **options)

    def log(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        self.run.log({**numbers, **{tag: self.picture(str(path)) for tag, path in samples.items()}}, step=step)

    def finish(self, good: bool) -> None:
        self.run.finish(exit_code=0 if good else 1)


class TrackioTracker(WandbTracker):
    """Trackio, which has W&B's interface: one project for a sweep, one run for each trial."""

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        import trackio

        # Trackio identifies a run by its name.
        self.id = known or f"{folder.key}-{uuid.uuid4().hex[:6]}"
        self._begin(trackio, trial, name=self.id, embed=False)

    def finish(self, good: bool) -> None:
        self.run.finish()


class MlflowTracker:
    """MLflow: one experiment for a sweep, one run for each trial; in the run's folder unless a server is named.

    MLflow's files in the run's folder are not uploaded (see `bench.store.remote.manifest.is_run_file`), so a trial that
    continues on another machine begins another MLflow run there.
    """

    def __init__(self, trial: Trial, folder: TrialFolder, known: str | None):
        import mlflow

        options, run = _options(trial, "mlflow"), folder.path.parents[1]
        server = options.pop("tracking_uri", None) or os.environ.get("MLFLOW_TRACKING_URI")
        name, place = options.pop("experiment_name", trial.sweep), None if server else (run / "mlflow").as_uri()
        self.library = mlflow
        mlflow.set_tracking_uri(server or f"sqlite:///{run / 'mlflow.db'}")
        with FileLock(run / ".mlflow.lock"):  # trials that begin together would both create the experiment
            stored = mlflow.get_experiment_by_name(name)
            experiment = stored.experiment_id if stored else mlflow.create_experiment(name, place)
            query = f"attributes.run_id = '{known}'"
            continued = known and mlflow.search_runs([experiment], query, output_format="list")
            self.id = mlflow.start_run(known if continued else None, experiment, folder.key, **options).info.run_id
        if not continued:
            mlflow.log_params(configuration(trial))

    def log(self, step: int, numbers: dict[str, float], samples: dict[str, Path]) -> None:
        for path in samples.values():
            self.library.log_artifact(str(path), f"samples/{path.parent.name}")
        # MLflow refuses some characters in a name, such as the + of a sum's parts.
        self.library.log_metrics({re.sub(r"[^\w./ -]", "-", name): number for name, number in numbers.items()}, step)

    def finish(self, good: bool) -> None:
        self.library.end_run("FINISHED" if good else "FAILED")


def _options(trial: Trial, service: str) -> dict[str, Any]:
    return trial.track.services[service].model_dump(mode="json", exclude_none=True)
