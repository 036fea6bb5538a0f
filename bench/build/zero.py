"""AdamW for several workers, sharded by DeepSpeed ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054).

Both classes are a `methods.base.Optimiser`. Stage 1 shards the optimiser's state, stage 2 the gradients too, stage 3
the weights too, frozen ones included. Stage 0 shards nothing: that is `SummedOptimiser`, which needs no DeepSpeed.
DeepSpeed averages gradients over workers, but here the gradient is their sum (`models/workers.py`), so losses are
multiplied by the number of workers.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from methods.base import TrainingSettings
from methods.optimiser import LocalOptimiser, adamw
from models.policy import Policy
from models.workers import Workers

LIVE_ELEMENTS = 50_000_000
"""The most weights that stage 3 keeps gathered between their uses, 200 MB in fp32. DeepSpeed's default, a thousand
million, would gather the whole of Stable Diffusion's denoiser on every worker."""


class SummedOptimiser(LocalOptimiser):
    """AdamW with its whole state on every worker and gradients summed over the workers: stage 0 of ZeRO."""

    def step(self) -> float:
        gradients = self.gradients()
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, whole in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(whole.view_as(gradient))
        return super().step()


class ZeroOptimiser:
    """AdamW over a policy's adapter with sharded state, gradients or weights. The process group must exist.

    Args:
        policy: the policy; stage 3 shards the weights of its denoiser in place.
        settings: the method's settings.
        workers: the group of workers.
        stage: the ZeRO stage, 1 to 3.
        offload: whether host memory holds the optimiser's state, and under stage 3 the weights.
    """

    def __init__(self, policy: Policy, settings: TrainingSettings, workers: Workers, stage: int, offload: bool = False):
        import deepspeed

        self.workers, self.stage = workers, stage
        self.updates = 0
        parameters = policy.trainable_parameters()
        self.engine, *_ = deepspeed.initialize(
            model=policy.parts["denoiser"],
            model_parameters=parameters,
            optimizer=adamw(parameters, settings),
            config=_config(settings, workers.size, stage, sum(p.numel() for p in parameters), offload),
            dist_init_required=False,
        )
        policy.denoiser = self.engine  # DeepSpeed counts the forward passes before a backward pass
        if stage == 3:
            policy.adapter.gathered = _gathered

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss * self.workers.size)

    def step(self) -> float:
        self.engine.step()
        self.updates += 1
        return float(self.engine.get_global_grad_norm())

    def state_dict(self) -> dict[str, Any]:
        """The shares of all workers; every worker must call this."""
        optimiser, masters = self._adamw()
        own = [
            {"master": master.detach().cpu().clone(), "state": _cloned(optimiser.state.get(master, {}))}
            for master in masters
        ]
        return {"shares": self.workers.each(own), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads this worker's share of a saved state; the policy's weights must have been loaded before.

        Raises:
            ValueError: the state was saved by another number of workers.
        """
        shares = state["shares"]
        if len(shares) != self.workers.size:
            raise ValueError(f"a checkpoint of {len(shares)} workers cannot be continued by {self.workers.size}")
        optimiser, masters = self._adamw()
        for master, saved in zip(masters, shares[self.workers.rank], strict=True):
            master.data.copy_(saved["master"])
            if saved["state"]:
                # AdamW keeps its step count on the host and the moments on the weights' device.
                optimiser.state[master] = {
                    name: value.clone() if name == "step" else value.to(master.device)
                    for name, value in saved["state"].items()
                }
        self.updates = state["updates"]

    def _adamw(self) -> tuple[torch.optim.Optimizer, list[Tensor]]:
        """The AdamW inside DeepSpeed, and the weights whose state this worker keeps."""
        outer = self.engine.optimizer
        if self.stage == 3:
            return outer.optimizer, list(outer.fp32_partitioned_groups_flat)
        return outer.optimizer, list(outer.single_partition_of_fp32_groups)


def _config(settings: TrainingSettings, workers: int, stage: int, elements: int, offload: bool) -> dict[str, Any]:
    place = {"device": "cpu"}
    # A bucket is allocated whole: DeepSpeed's default would take two gigabytes for an adapter of a few megabytes.
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": elements}
    if offload:
        zero["offload_optimizer"] = place
    if stage == 3:
        zero |= {
            "stage3_param_persistence_threshold": 0,
            "stage3_prefetch_bucket_size": LIVE_ELEMENTS,
            "stage3_max_live_parameters": LIVE_ELEMENTS,
            "stage3_max_reuse_distance": LIVE_ELEMENTS,
        }
        if offload:
            zero["offload_param"] = place
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed requires it; a step here ends when the method says so
        "train_batch_size": workers,
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _gathered(parameters: list[torch.nn.Parameter], write: bool) -> AbstractContextManager[None]:
    """Gathers sharded weights on every worker inside the block; with `write`, changes by the first worker are kept."""
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None)


def _cloned(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
