"""Runs the workers of one trial as a Ray Train group, on this machine or on several."""

import logging
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial
from bench.run.group import PATIENCE, describe, launched, member
from bench.store.trial_folder import TrialFolder


def launch(trial: Trial, folder: TrialFolder, scratch: Path) -> None:
    """Runs a trial's workers (a `bench.run.group.Launch` with `scratch`, the folder to which Ray may write).

    The cluster must have the cores and GPUs of every worker, or the call waits.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = trial.gpus > 0
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"trial": trial.model_dump(mode="json"), "folder": str(folder.path), "owner": folder.owner},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=trial.workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": trial.threads} | ({"GPU": trial.gpus} if on_gpu else {}),
        ),
        run_config=RunConfig(
            name=f"train-{trial.key}",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    launched(trainer.fit, folder)


def _loop(config: dict[str, Any]) -> None:
    import ray.train
    import torch
    from ray.train.torch import get_device

    context = ray.train.get_context()
    describe(context.get_world_rank(), context.get_local_rank(), context.get_world_size())
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    member(Trial.model_validate(config["trial"]), config["folder"], config["owner"])
