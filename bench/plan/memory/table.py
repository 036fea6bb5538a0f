"""The table of docs/memory.md: what a worker holds, by architecture, precision and checkpointing.

`python -m bench.plan.memory.table` prints it (minutes; no weights are read).
"""

from collections.abc import Iterator
from itertools import product

import torch

from bench.build.plugins import embedded_models
from bench.plan.memory.prediction import Adapter
from methods.common.backprop import LEVELS
from models.architectures import SD15
from models.checkpointing import Checkpointing
from models.dry import DryPolicy, configurations
from models.memory import weight_bytes
from models.sampler import SamplerSettings

GIB = 1 << 30
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def chain_bytes(policy: DryPolicy, kept: int, level: Checkpointing) -> int:
    """The peak of one image's gradient through the decoder and a chain of `kept` denoising steps."""
    latents = torch.zeros(1, *policy.state_shape)
    sampler = SamplerSettings(kept, guidance=1.0, eta=0.0)

    def run() -> None:
        kept_steps = [True] * kept
        clean = policy.sample(
            latents, policy.encode([""]), lambda key: latents, sampler, kept_steps, checkpointing=level
        )
        policy.decode(clean).mean().backward()

    return policy.peak_bytes(run)


def rows() -> Iterator[str]:
    """The table's, the smallest model first."""
    models = {"emoji-v1, 64 pixels": configurations(str(embedded_models()["emoji-v1"])), "SD 1.5, 512 pixels": SD15}
    for name, precision in product(models, PRECISIONS):
        policy = DryPolicy(models[name], SamplerSettings(1, 1.0, 0.0), dtype=PRECISIONS[precision])
        weights = policy.frozen_bytes() + weight_bytes([policy.parts["decoder"], policy.parts["encoder"]])
        adapter = Adapter(tuple(weight.numel() for weight in policy.trainable_parameters()))
        held = adapter.parameters(0, 1) + adapter.gradients(0, 1) + adapter.optimiser(0, 1)
        for level in LEVELS:
            one, two, three = (chain_bytes(policy, kept, level) for kept in (1, 2, 3))
            sizes = (f"{size / GIB:.4f}" for size in (weights, held, one, three - two))
            yield f"| {name} | {precision} | {level} | {' | '.join(sizes)} |\n"


if __name__ == "__main__":
    from bench.build.objects import quieten

    quieten()
    print("".join(rows()), end="")
