"""The contract of a model family: what differs between kinds of generative models, and nothing that methods do.

`Policy` asks a family for conditioning, for one raw prediction and for decoded images; the noise process that the
prediction belongs to is the family's `path`. `docs/models.md` shows a family in one file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.families.conditioning import Conditioning
from models.paths.base import NoisePath


class Family(ABC):
    """A model, ready to be aligned.

    A family of one's own has a constructor that takes `device` and `dtype`, the precision of the frozen weights.

    Args:
        parts: the networks by name. `denoiser` gets the adapter; `decoder` and `encoder` (of text) may be missing. They
            are frozen and moved to the device.
        path: the noise process.
        device: the device of the networks.
        metered: the modules whose calls are counted, by the names of `parts`; the parts themselves by default.

    Class attributes that an author sets:
        name: the family's name in messages and in `Method.families`.
    """

    name: ClassVar[str]

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        path: NoisePath,
        device: torch.device | str = "cpu",
        metered: Mapping[str, nn.Module] | None = None,
    ):
        self.parts = dict(parts)
        self.path = path
        self.device = torch.device(device)
        self.metered = dict(self.parts if metered is None else metered)
        for part in self.parts.values():
            part.requires_grad_(False).eval().to(self.device)

    @property
    @abstractmethod
    def state_shape(self) -> tuple[int, ...]:
        """The shape of one state x_t, such as channels, height and width of a latent."""

    @property
    @abstractmethod
    def pixels(self) -> int:
        """Height times width of one decoded image."""

    @property
    def pooled_width(self) -> int:
        """The length of a prompt's vector in `Conditioning.pooled`."""
        return self.encode("").pooled.shape[1]

    @abstractmethod
    def encode(self, prompt: str) -> Conditioning:
        """The conditioning of one prompt, one row without gradient. The empty prompt is that of guidance."""

    @abstractmethod
    def output(self, denoiser: Callable[..., Any], state: Tensor, times: Tensor, *conditioning: Tensor) -> Tensor:
        """The raw output `[B, ...]` of the denoiser without guidance, in the quantity that `path` converts.

        Args:
            denoiser: the part of that name or a wrapper around it (DeepSpeed's engine), called as the part is.
            state: x_t `[B, *state_shape]`, at least fp32.
            times: times of the rows, `[B]`, as `path` gives them.
            conditioning: the tensors of the rows' conditioning, `[B, ...]` each.
        """

    @abstractmethod
    def decode(self, final: Tensor) -> Tensor:
        """Images `[B, 3, H, W]`, at least fp32, from x_0 `[B, *state_shape]`; `Policy` clamps them to [0, 1]."""

    def save_adapter(self, folder: Path, layers: dict[str, Tensor], config: Mapping[str, Any]) -> None:
        """Writes LoRA `layers` and the `config` as `PeftModel.from_pretrained(denoiser, folder)` reads them."""
        from peft import LoraConfig
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        LoraConfig(**config).save_pretrained(str(folder))
        named = {f"base_model.model.{name}": tensor.cpu() for name, tensor in layers.items()}
        save_file(named, folder / "adapter_model.safetensors")


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Converts half precision to fp32; returns fp32 and fp64 tensors unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
