"""docs/memory.md: what a worker needs for published architectures, LoRA beside full fine-tuning.

`python -m bench.plan.memory.table > docs/memory.md` (a minute; no weights are read).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.build.plugins import embedded_models
from bench.plan.memory.prediction import FP32, Adapter, live_bytes, with_gathered
from models.architectures import SD15, SDXL_TEXT_ENCODER_2, SDXL_UNET
from models.dry import Configurations, chain_bytes, configurations, dry_policy
from models.memory import weight_bytes
from models.sampler import SamplerSettings

if TYPE_CHECKING:
    from models.policy import Policy

STAGES = range(4)
WORKERS = (1, 2, 4, 8)
GIB, MIB = 1 << 30, 1 << 20
EMBEDDED = "emoji-v1"

HEAD = """\
# Memory of a worker

Bytes that one worker holds, by architecture, stage of ZeRO and number of workers, in fp32 as the harness runs unless
`resources.precision` says otherwise. Written by `make memory-table`; no weights are needed.

- **LoRA** is what this harness trains: rank 4 on every attention projection, fp32 moments. Parameters are the frozen
  denoiser and its adapter; what no stage shards stands in the table below.
- **Full fine-tuning** is arithmetic only: the trainer here does not do it. Every weight of the denoiser is trained, and
  held as DeepSpeed would hold it under the same settings.
- **Optimiser**: AdamW's two moments; under stages 1 and 2 also DeepSpeed's copy of this worker's share of the weights.
- **Activations**: AlignProp on one image a worker, one denoising step kept, without guidance, through the decoder,
  without a reward's own, less what the other columns hold; checkpointing `none`. They do not depend on the stage,
  except that under stage 3 weights are gathered to be used: at most 50 million of them stay whole, and as many may be
  in a bucket on their way.
- A unit is a GiB (2³⁰ bytes); M marks MiB.

The arithmetic is held against real trials, to the byte for parameters, gradients and optimiser, in
tests/bench/plan/memory/test_prediction.py (one worker) and tests/bench/run/distributed/test_memory.py (two).
"""


@dataclass(frozen=True)
class Model:
    """An architecture of the table."""

    name: str
    configs: Configurations
    embedding: int | None = None  # width of a second text encoder's, which the policy does not load

    @contextmanager
    def policy(self, full: bool = False, dtype: torch.dtype = torch.float32) -> Iterator["Policy"]:
        """Dry; with every weight of the denoiser trained, or the adapter's."""
        with dry_policy(self.configs, SamplerSettings(1, 1.0, 1.0), dtype=dtype) as policy:
            if full:
                policy.unet.requires_grad_(True)
            if self.embedding:
                policy._embeddings[""] = torch.zeros(77, self.embedding)
                policy.denoiser = _conditioned(policy.unet)
            yield policy


def models() -> list[Model]:
    """The table's, the smallest first."""
    return [
        Model(f"Embedded ({EMBEDDED}, 64 pixels)", configurations(str(embedded_models()[EMBEDDED]))),
        Model("Stable Diffusion 1.5 (512 pixels)", SD15),
        Model("SDXL-size (1024 pixels)", {**SD15, "unet": SDXL_UNET}, embedding=SDXL_UNET["cross_attention_dim"]),
    ]


def _conditioned(unet: nn.Module) -> Any:
    """SDXL's denoiser with the pooled embedding and the sizes that it asks for."""

    def call(latents: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows = len(latents)
        added = {
            "text_embeds": torch.zeros(rows, SDXL_TEXT_ENCODER_2["projection_dim"], dtype=latents.dtype),
            "time_ids": torch.zeros(rows, 6, dtype=latents.dtype),
        }
        return unet(latents, *args, added_cond_kwargs=added, **options)

    return call


@dataclass(frozen=True)
class Needs:
    """What a model needs when some of its weights are trained."""

    frozen: tuple[int, ...]  # elements of each frozen weight
    trained: Adapter
    activations: int
    further: int  # for each further kept step
    size: int = FP32  # bytes of a frozen weight

    def row(self, stage: int, workers: int) -> tuple[int, int, int, int]:
        """Parameters, gradients, optimiser, activations."""
        frozen = sum(-(-count // workers) if stage == 3 else count for count in self.frozen)
        whole = sum(self.frozen) + sum(self.trained.elements)
        live = live_bytes(whole, self.size) if stage == 3 and workers > 1 else 0
        return (
            self.size * frozen + self.trained.parameters(stage, workers),
            self.trained.gradients(stage, workers),
            self.trained.optimiser(stage, workers),
            with_gathered(self.activations, live),
        )


def needs(model: Model, full: bool, dtype: torch.dtype = torch.float32) -> Needs:
    """Counted from shapes, and by a dry pass."""
    with model.policy(full, dtype) as policy:
        every = list(policy.unet.named_parameters())
        # Full fine-tuning has no adapter; its pass went through one, whose part is less than a thousandth.
        own = [(name, p) for name, p in every if not (full and "lora_" in name)]
        two, further = chain_bytes(policy, 1, 2, "none", lambda images: images.mean((1, 2, 3)), later=True)
        return Needs(
            tuple(p.numel() for _, p in own if not p.requires_grad),
            Adapter(tuple(p.numel() for _, p in own if p.requires_grad)),
            two - further,
            further,
            policy.unet.dtype.itemsize,
        )


def table(lora: Needs, full: Needs) -> list[str]:
    """Stages and workers down, both kinds of training across."""
    parts = ("parameters", "gradients", "optimiser", "activations", "in all")
    lines = [
        f"| ZeRO | workers | {' | '.join(f'{kind}: {part}' for kind in ('LoRA', 'full') for part in parts)} |",
        f"| --: | --: | {' | '.join(['--:'] * 2 * len(parts))} |",
    ]
    for stage in STAGES:
        for workers in WORKERS:
            cells = []
            for kind in (lora, full):
                row = kind.row(stage, workers)
                cells += [shown(value) for value in (*row, sum(row))]
            lines.append(f"| {stage} | {workers} | {' | '.join(cells)} |")
    return lines


def half_table(found: dict[str, tuple[Needs, Needs]]) -> list[str]:
    """What `resources.precision: bf16` changes for one worker."""
    lines = [
        "## What bf16 changes",
        "",
        "With `resources.precision: bf16` the frozen base is half as large, and so are most activations; the adapter,\n"
        "its gradients and AdamW's state stay fp32. One worker, LoRA, fp32 → bf16:",
        "",
        "| model | parameters | activations | a further kept step |",
        "| --- | --: | --: | --: |",
    ]
    for name, (single, half) in found.items():
        (before, *_, activations), (after, *_, fewer) = single.row(0, 1), half.row(0, 1)
        pairs = ((before, after), (activations, fewer), (single.further, half.further))
        lines.append(f"| {name} | {' | '.join(f'{shown(old)} → {shown(new)}' for old, new in pairs)} |")
    return lines


def shown(count: int) -> str:
    """GiB, or MiB where that is little: `12.3`, `6.1 M`."""
    return f"{count / GIB:.2f}" if count >= GIB // 10 else f"{count / MIB:.2f} M"


def beside(model: Model, lora: Needs, full: Needs) -> str:
    """A line about what the model's own table leaves out."""
    with model.policy() as policy:
        text = weight_bytes([policy.text_encoder]) + (second_text_encoder() if model.embedding else 0)
        cells = (weight_bytes([policy.vae]), text, lora.further, full.further)
    return f"| {model.name} | {' | '.join(map(shown, cells))} |"


def second_text_encoder() -> int:
    """Bytes of SDXL's second."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    with torch.device("meta"):
        return weight_bytes([CLIPTextModelWithProjection(CLIPTextConfig(**SDXL_TEXT_ENCODER_2))])


def document() -> str:
    """The whole page."""
    sections: list[str] = []
    halves: dict[str, tuple[Needs, Needs]] = {}
    rows = [
        "| model | VAE | text encoders | a further kept step, LoRA | full |",
        "| --- | --: | --: | --: | --: |",
    ]
    for model in models():
        lora, full = needs(model, full=False), needs(model, full=True)
        halves[model.name] = (lora, needs(model, full=False, dtype=torch.bfloat16))
        rows.append(beside(model, lora, full))
        denoiser, adapter = sum(lora.frozen), sum(lora.trained.elements)
        sections += [f"## {model.name}", f"A denoiser of {denoiser:,} parameters; the adapter has {adapter:,}."]
        sections.append("\n".join(table(lora, full)))
    return "\n\n".join([HEAD.strip(), "\n".join(rows), *sections, "\n".join(half_table(halves))]) + "\n"


if __name__ == "__main__":
    from bench.build.objects import quieten

    quieten()
    print(document(), end="")
