"""What a worker really holds: one training step's tensors, counted."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.build.zero import ZeroOptimiser
from bench.run.trial import TrialLoop
from models.memory import LiveTensors, held_bytes, weight_bytes


def weigh(loop: TrialLoop) -> dict[str, Any]:
    """Bytes as `bench.plan.memory.prediction.Memory` has them, of the second step: AdamW has its state by then."""
    gradients = 0
    loop.encode_prompts()
    update, prompts = loop.optimiser.step, loop.method.prompts_per_step(loop.settings)

    def step() -> float:
        nonlocal gradients
        gradients = max(gradients, held_bytes(gradients_of(loop.optimiser)))
        return update()

    loop.optimiser.step = step
    loop.method.step(loop.draw_prompts(prompts))
    with LiveTensors() as live:
        loop.method.step(loop.draw_prompts(prompts))
    return {
        "parameters": {
            "denoiser": held_bytes(own_weights(loop.policy.parts["denoiser"], trained=False)),
            "adapter": held_bytes(own_weights(loop.policy.parts["denoiser"], trained=True)),
            "decoder": weight_bytes([loop.policy.parts["decoder"]]),
            "text_encoder": weight_bytes([loop.policy.parts["encoder"]]),
            "rewards": weight_bytes(module for reward in loop.rewards.values() for module in reward.modules()),
        },
        "gradients": gradients,
        "optimiser": held_bytes(state_of(loop.optimiser)),
        "activations": live.peak - gradients,
    }


def own_weights(module: nn.Module, trained: bool) -> list[Tensor]:
    """The weights and buffers that this worker holds of a module: of those that ZeRO shards, its share."""
    both = (*module.parameters(), *module.buffers())
    return [getattr(tensor, "ds_tensor", tensor) for tensor in both if tensor.requires_grad == trained]


def gradients_of(optimiser: Any) -> list[Tensor]:
    """The gradients that this worker holds now, its share of the sum among them."""
    if not isinstance(optimiser, ZeroOptimiser):
        return optimiser.gradients()
    outer = optimiser.engine.optimizer
    own = [weight.grad for weight in optimiser.engine.module.parameters() if weight.grad is not None]
    if optimiser.stage == 3:
        return [*own, outer.grad_partitions_flat_buffer]
    masters = [master.grad for master in outer.single_partition_of_fp32_groups if master.grad is not None]
    # What has been reduced waits in one of these until the step.
    reduced = [*outer.averaged_gradients.values(), *outer.all_grad_tensors.values()]
    return [*own, *masters, *(part for parts in reduced for part in parts or ())]


def state_of(optimiser: Any) -> list[Tensor]:
    """This worker's share of what AdamW keeps, and of the weights where it is a copy of them."""
    adamw, masters = optimiser._adamw, []
    if isinstance(optimiser, ZeroOptimiser):
        adamw, masters = optimiser._adamw()
        if optimiser.stage == 3:  # the weights that AdamW updates are the policy's own
            masters = []
    return [*masters, *(value for state in adamw.state.values() for value in state.values() if torch.is_tensor(value))]
