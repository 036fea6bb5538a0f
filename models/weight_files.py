"""Finds the weight files of a model's part and checks that they are complete and fit its configuration."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

LAYOUT = "a folder as StableDiffusionPipeline.save_pretrained writes it"
LFS = b"version https://git-lfs"


class UnsupportedModelError(ValueError):
    """The model is of an unsupported kind, or its files are missing or damaged; the message names part and problem."""


@dataclass(frozen=True)
class WeightFiles:
    """The weight files that are read for one part of a model.

    Attributes:
        variant: `fp16` for `diffusion_pytorch_model.fp16.safetensors`; None for the plain names.
        safetensors: whether the files are in safetensors format; False for PyTorch's own format, `.bin`.
        files: file names; more than one if the weights are sharded.
    """

    variant: str | None
    safetensors: bool
    files: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that make `from_pretrained` read these files."""
        return {"variant": self.variant, "use_safetensors": self.safetensors}


def find_weights(folder: Path, base: str) -> WeightFiles:
    """Chooses the weight files of one part: plain names before variants such as fp16, safetensors before `.bin`.

    Args:
        folder: the folder of the part.
        base: file name without its ending that diffusers or transformers gives the weights.

    Raises:
        UnsupportedModelError: there are no weight files, or one is incomplete.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    candidates = []
    for name in names:
        ending = next((end for end in (".safetensors", ".bin", ".index.json", ".json") if name.endswith(end)), None)
        stem, variant, safe = _parsed(name, ending)
        if stem in (base, "pytorch_model" if base == "model" else base) and safe is not None:
            candidates.append((variant is not None, not safe, VARIANTS.get(variant or "", 9), name, variant, safe))
    if not candidates:
        raise UnsupportedModelError(f"{folder.name}: its weights are missing; expected {base}.safetensors")
    *_, name, variant, safe = min(candidates)
    files = _shards(folder / name) if name.endswith(".json") else (name,)
    for file in files:
        _check_whole(folder / file)
    return WeightFiles(variant, safe, files)


VARIANTS = {"": 0, "fp16": 1, "bf16": 2, "ema": 3, "non_ema": 4}
"""Variant -> its rank; the variant with the lowest rank is read."""


def _parsed(name: str, ending: str | None) -> tuple[str, str | None, bool | None]:
    """Stem and variant of a file's name, and whether it is in safetensors format; None for a file without weights.

    Names are such as `model.fp16.safetensors`, `model.safetensors.index.json`, `model.safetensors.index.fp16.json` and
    `pytorch_model.bin`.
    """
    pieces = name.split(".")
    if ending is None or len(pieces) < 2:
        return name, None, None
    if pieces[-1] == "json":
        if "index" not in pieces or not {"safetensors", "bin"} & set(pieces):
            return name, None, None
        safe = "safetensors" in pieces
        variant = pieces[-2] if pieces[-2] != "index" else None
        return pieces[0], variant, safe
    variant = ".".join(pieces[1:-1]) or None
    return pieces[0], variant, pieces[-1] == "safetensors"


def _shards(index: Path) -> tuple[str, ...]:
    files = tuple(sorted(set(read_config(index).get("weight_map", {}).values())))
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing or not files:
        what = ", ".join(missing[:3]) or "every file"
        raise UnsupportedModelError(f"{index.parent.name}: {what} of {index.name} is missing")
    return files


def _check_whole(path: Path) -> None:
    """Raises `UnsupportedModelError` if a weight file cannot be read, as after an interrupted download."""
    where = f"{path.parent.name}/{path.name}"
    with path.open("rb") as file:
        head = file.read(len(LFS))
    if head == LFS:
        raise UnsupportedModelError(f"{where}: is a pointer of Git LFS, not the weights; run `git lfs pull` there")
    if path.suffix != ".safetensors" and head[:2] != ZIP and head[:1] != b"\x80":
        raise UnsupportedModelError(f"{where}: is no PyTorch file; fetch it again")
    _shapes(path)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name of each weight in a file -> its shape. Values are read only from PyTorch's format before version 1.6.

    Raises:
        UnsupportedModelError: the file is damaged or incomplete.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        with path.open("rb") as content:
            zipped = content.read(len(ZIP)) == ZIP
        state = torch.load(path, map_location="meta", weights_only=True, mmap=zipped)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        why = str(error).strip().partition("\n")[0]
        where = f"{path.parent.name}/{path.name}"
        raise UnsupportedModelError(f"{where}: is damaged or cut short ({why}); fetch it again") from error
    return {key: tuple(value.shape) for key, value in state.items() if isinstance(value, torch.Tensor)}


ZIP = b"PK"
"""The first bytes of a file in PyTorch's own format since version 1.6."""

RENAMED = {
    "vae": (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")),
    "text_encoder": (("text_model", ""),),
}
"""Part -> (old, new) pieces of weight names that the libraries rename when they load: the names that diffusers had
before 0.15, and the prefix that transformers had before version 5."""


def _renamed(part: str, name: str) -> str:
    for old, new in RENAMED.get(part, ()):
        name = re.sub(rf"(?<![^.]){old}\.", f"{new}." if new else "", name)
    return name


def check_names(folder: Path, files: WeightFiles, bare: nn.Module) -> None:
    """Checks the names and shapes of a part's weights against the part built from its configuration.

    Args:
        folder: the folder of the part.
        files: its weight files.
        bare: the part on the meta device.

    Raises:
        UnsupportedModelError: a weight is missing or has another shape.
    """
    part = folder.name
    shapes: dict[str, tuple[int, ...]] = {}
    for name in files.files:
        shapes |= {_renamed(part, key): shape for key, shape in _shapes(folder / name).items()}
    wanted = {_renamed(part, name): tuple(tensor.shape) for name, tensor in bare.state_dict().items()}
    missing = [name for name in wanted if name not in shapes]
    if missing:
        text = f"{len(missing)} of {len(wanted)} weights are missing, {missing[0]} first"
        raise UnsupportedModelError(f"{part}: {text}; configuration and weights are of different models")
    other = next((name for name, shape in wanted.items() if shapes[name] != shape), None)
    if other:
        text = f"{other} is {list(shapes[other])} and config.json describes {list(wanted[other])}"
        raise UnsupportedModelError(f"{part}: {text}; configuration and weights are of different models")


def read_config(path: Path) -> Mapping[str, Any]:
    """Reads a JSON file of a model.

    Raises:
        UnsupportedModelError: the file is missing, is not JSON, or holds no mapping.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UnsupportedModelError(f"{where}: is missing; supported is {LAYOUT}") from None
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{where}: cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{where}: is a {type(config).__name__}, not a mapping")
    return config
