"""Builds a trial's policy, rewards and optimiser from its specification, for training and for predicting memory."""

import logging
import os

import torch

from bench.build.plugins import build_reward, load_family
from bench.build.trial_spec import Trial, reward_metrics
from bench.build.zero import SummedOptimiser, ZeroOptimiser
from bench.sweep.schema import Sampler
from methods.base import Settings, TrainingSettings
from methods.optimiser import LocalOptimiser
from models.adapter import AdapterSettings
from models.meter import Meter
from models.policy import Policy
from models.sampler import SamplerSettings
from models.workers import Workers
from rewards.base import Reward


def policy_of(trial: Trial, meter: Meter, workers: Workers, device: str) -> Policy:
    """The trial's model on `device` with a fresh adapter and the trial's training sampler."""
    family = load_family(trial.model, device, dtype_of(trial))
    return Policy(family, sampler_settings(trial.sampler), meter, adapter_of(trial), workers)


def adapter_of(trial: Trial) -> AdapterSettings:
    """The settings of the trial's LoRA adapter."""
    return AdapterSettings(trial.lora.rank, trial.lora.alpha, trial.lora.targets, trial.seed)


def rewards_of(trial: Trial, device: str) -> dict[str, Reward]:
    """Metric -> reward on `device`: the optimised one as `reward`, the gold reward, and those only reported."""
    return {metric: build_reward(ref.spec).to(device) for metric, ref in reward_metrics(trial).items()}


def optimiser_of(
    trial: Trial, policy: Policy, settings: Settings, workers: Workers
) -> LocalOptimiser | ZeroOptimiser | None:
    """AdamW over the policy's adapter, for one process or sharded over workers; None for a method without training."""
    if not isinstance(settings, TrainingSettings):
        return None
    if trial.zero:
        return ZeroOptimiser(policy, settings, workers, trial.zero, trial.offload)
    kind = SummedOptimiser if workers.size > 1 else LocalOptimiser
    return kind(policy.trainable_parameters(), settings)


def for_all_workers(settings: Settings, workers: Workers) -> Settings:
    """The settings with `micro_batch` multiplied by the number of workers: a sweep gives the rows of one worker,
    but a method handles the rows of all workers at once.
    """
    if workers.size == 1 or not isinstance(settings, TrainingSettings):
        return settings
    return settings.model_copy(update={"micro_batch": settings.micro_batch * workers.size})


def dtype_of(trial: Trial) -> torch.dtype:
    """The dtype of the frozen weights."""
    return {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}[trial.precision]


def sampler_settings(sampler: Sampler) -> SamplerSettings:
    """The sampler of a sweep as policies and methods take it."""
    return SamplerSettings(sampler.steps, sampler.guidance, sampler.eta, sampler.spacing)


def set_arithmetic(precision: str) -> None:
    """Makes cuDNN use deterministic algorithms, and TF32 for fp32 tensors on a GPU only if `precision` is `tf32`."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def quieten() -> None:
    """Silences the libraries' progress bars and notices, which would garble a sweep's output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed announces its choice when imported
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
