"""Inspects the folder of a model before its weights are loaded.

The configurations and the headers of the weight files are read. A checkpoint of an unsupported kind, or one with
damaged files, is therefore refused when a sweep is planned, and not in the first forward pass of every trial.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from models.schedulers import Replacement, ddim
from models.weight_files import LAYOUT, UnsupportedModelError, WeightFiles, check_names, find_weights, read_config

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SUPPORTED = "Stable Diffusion 1.x and 2.x: a text-conditional U-Net, one CLIP text encoder, an AutoencoderKL"

FAMILIES = {
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux2": "FLUX.2",
    "Flux": "FLUX.1",
    "StableCascade": "Stable Cascade",
    "PixArt": "PixArt",
    "Sana": "Sana",
    "QwenImage": "Qwen-Image",
    "ZImage": "Z-Image",
    "Kandinsky": "Kandinsky",
    "IF": "DeepFloyd IF",
    "AuraFlow": "AuraFlow",
    "Lumina": "Lumina",
    "HunyuanDiT": "Hunyuan-DiT",
    "Chroma": "Chroma",
    "LatentConsistency": "a latent consistency model",
}
"""Prefix of a pipeline's class name -> common name of its models. The first prefix that matches is used."""

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
CHANNELS = {5: "depth-conditional", 7: "an upscaler", 8: "for instructed editing", 9: "for inpainting"}


@dataclass(frozen=True)
class Inspection:
    """The configurations and weight files of a supported model.

    Attributes:
        unet, vae, text_encoder: configurations of the parts.
        sampling: the scheduler that samples the model.
        weights: part -> its weight files; empty if the inspection was without weights.
        notes: sentences about the model that a reader of its results must know.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    sampling: Replacement
    weights: Mapping[str, WeightFiles] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def inspect_model(folder: Path, weights: bool = True) -> Inspection:
    """Checks a model's folder in diffusers' layout and returns its configurations.

    Args:
        folder: the folder of a model, or its snapshot in the hub's cache.
        weights: whether the weight files are checked, and must exist.

    Raises:
        UnsupportedModelError: the model is of an unsupported kind, its parts do not fit each other, or files are
            missing or damaged.
    """
    index = _index(folder)
    unet, vae = _config(folder, "unet"), _config(folder, "vae")
    text = _text_config(_config(folder, "text_encoder"))
    _check_unet(unet)
    _check_vae(vae)
    _check_together(unet, vae, text)
    size = sample_size(unet, vae)
    bare = {"unet": bare_unet(unet), "vae": _bare("vae", vae), "text_encoder": _bare("text_encoder", text)}
    scheduler = read_config(folder / "scheduler" / "scheduler_config.json")
    try:
        sampling = ddim(scheduler, _named(index, "scheduler"))
    except ValueError as error:
        raise UnsupportedModelError(str(error)) from error
    weight_files = {part: find_weights(folder / part, base) for part, base in WEIGHTS.items()} if weights else {}
    for part, files in weight_files.items():
        check_names(folder / part, files, bare[part])
    variants = {files.variant for files in weight_files.values() if files.variant}
    notes = [*sampling.notes]
    if variants:
        parts = " and ".join(part for part, files in weight_files.items() if files.variant)
        notes.append(f"its weights of {parts} exist as {' and '.join(sorted(variants))} only, and those are used")
    if unet.get("sample_size") is None:
        pixels = vae["sample_size"]
        notes.append(f"its U-Net names no sample_size: latents of {size} stand for the VAE's {pixels} pixels")
    return Inspection(unet, vae, text, sampling, weight_files, tuple(notes))


def sample_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> Any:
    """The U-Net's `sample_size`: height and width of a latent, or one number for both.

    A U-Net without it gets the size that follows from the VAE's `sample_size` and its downsampling.

    Raises:
        UnsupportedModelError: neither configuration has a `sample_size`, or the U-Net's is not a positive size.
    """
    own = unet.get("sample_size")
    if own is not None:
        sides = own if isinstance(own, list | tuple) and len(own) == 2 else [own]
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise UnsupportedModelError(f"unet: sample_size is {own!r}; expected one or two whole numbers above 0")
        return own
    pixels, widths = vae.get("sample_size"), vae.get("block_out_channels", (64,))
    if not isinstance(pixels, int) or not isinstance(widths, list | tuple):
        raise UnsupportedModelError("unet: has no sample_size, and neither has the VAE; add it to unet/config.json")
    return pixels // 2 ** (len(widths) - 1)


def kind_of(folder: Path) -> str | None:
    """Describes what a folder without `model_index.json` seems to hold; None if nothing is recognised."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names & {"adapter_config.json", "pytorch_lora_weights.safetensors", "adapter_model.safetensors"}:
        return "is a LoRA adapter, not a model"
    if "config.json" in names:
        config = read_config(folder / "config.json")
        own = config.get("_class_name") or " ".join(map(str, config.get("architectures") or []))
        return f"is one part of a model ({own})" if own else "is one part of a model"
    single = sorted(name for name in names if name.endswith((".safetensors", ".ckpt")))
    if single and "model_index.json" not in names:
        return f"holds a checkpoint in one file ({single[0]}); {from_single_file(single[0])}"
    inside = sorted(path.parent for path in folder.glob("*/model_index.json"))
    inside += sorted(path.parent for path in folder.glob("snapshots/*/model_index.json"))
    return f"holds a model in {inside[0].relative_to(folder)}; name that folder" if inside else None


def from_single_file(name: str) -> str:
    """The advice that says how to convert a checkpoint in one file to a folder."""
    return f"convert it: StableDiffusionPipeline.from_single_file({name!r}).save_pretrained(FOLDER)"


# -- the parts -------------------------------------------------------------------------------------------------


def _index(folder: Path) -> Mapping[str, Any]:
    """Reads `model_index.json`; raises `UnsupportedModelError` if the pipeline is not supported."""
    path = folder / "model_index.json"
    if not path.is_file():
        missing = [name for name in ("model_index.json", *PARTS) if not (folder / name).exists()]
        what = kind_of(folder) or f"has no {', '.join(missing)}"
        raise UnsupportedModelError(f"{what}; supported is {LAYOUT}")
    index = read_config(path)
    own = str(index.get("_class_name"))
    family = next((words for prefix, words in FAMILIES.items() if own.startswith(prefix)), None)
    if family:
        raise UnsupportedModelError(f"is {family} ({own}), which is not supported; supported is {SUPPORTED}")
    wanted: dict[str, tuple[str, ...]] = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
    }
    wanted |= {"tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast")}
    extra = [part for part in index if not part.startswith("_") and _named(index, part) and part not in KNOWN_PARTS]
    wrong = [f"{part} {_named(index, part)}" for part, classes in wanted.items() if _named(index, part) not in classes]
    if extra or wrong:
        also = [f"{part} {_named(index, part)}" for part in extra]
        unfit = ", ".join(also + [text.replace(" None", " is missing") for text in wrong])
        raise UnsupportedModelError(f"is a {own} ({unfit}), which is not supported; supported is {SUPPORTED}")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise UnsupportedModelError(f"lacks the folder {', '.join(missing)}; supported is {LAYOUT}")
    return index


KNOWN_PARTS = (*PARTS, "safety_checker", "feature_extractor", "image_encoder")
"""Parts that a supported pipeline may have. The last three are ignored."""


def _named(index: Mapping[str, Any], part: str) -> str | None:
    """The class that `model_index.json` names for a part; None if it names none."""
    entry = index.get(part)
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] else None


def _config(folder: Path, part: str) -> Mapping[str, Any]:
    config = read_config(folder / part / "config.json")
    if config.get("quantization_config"):
        raise UnsupportedModelError(f"{part}: its weights are quantised, which is not supported")
    own, wanted = config.get("_class_name"), CLASSES.get(part)
    if wanted and own not in (None, wanted):
        raise UnsupportedModelError(f"{part}: is a {own}; supported is {wanted}")
    return config


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of CLIP's text encoder, which a full CLIP configuration holds under `text_config`."""
    kind = config.get("model_type", "clip_text_model")
    if kind == "clip":
        inner = config.get("text_config") or {}
        return inner if isinstance(inner, Mapping) else {}
    if kind != "clip_text_model":
        raise UnsupportedModelError(f"text_encoder: is a {kind}; supported is CLIP's text encoder")
    return config


def _check_unet(unet: Mapping[str, Any]) -> None:
    """Raises `UnsupportedModelError` if the U-Net needs an input besides latents, timestep and text."""
    added, classes = unet.get("addition_embed_type"), unet.get("class_embed_type")
    projected, distilled = unet.get("encoder_hid_dim_type"), unet.get("time_cond_proj_dim")
    if added == "text_time":
        raise UnsupportedModelError("unet: is Stable Diffusion XL's (addition_embed_type text_time); not supported yet")
    wants = {
        f"is class-conditional ({classes or 'num_class_embeds'})": classes or unet.get("num_class_embeds"),
        f"wants a further input (addition_embed_type {added})": added,
        f"wants a further input (encoder_hid_dim_type {projected})": projected,
        "wants its guidance scale as an input (time_cond_proj_dim), as distilled models do": distilled,
    }
    for what, wanted in wants.items():
        if wanted:
            raise UnsupportedModelError(f"unet: {what}; supported is {SUPPORTED}")


def _check_vae(vae: Mapping[str, Any]) -> None:
    """Raises `UnsupportedModelError` if the VAE decodes latents otherwise than in Stable Diffusion 1.x and 2.x."""
    for name in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(name):
            raise UnsupportedModelError(
                f"vae: its latents are shifted ({name}), as no Stable Diffusion 1.x or 2.x has it"
            )
    made, scale = vae.get("out_channels", 3), vae.get("scaling_factor", 0.18215)
    if made != 3:
        raise UnsupportedModelError(f"vae: gives images of {made} channels; supported are the 3 of red, green and blue")
    if not isinstance(scale, int | float) or not scale > 0:
        raise UnsupportedModelError(f"vae: scaling_factor is {scale!r}; expected a number above 0")


def _check_together(unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises `UnsupportedModelError` if the output of one part does not fit the input of another."""
    channels, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if channels != latent:
        what = f"; it is {CHANNELS[channels]}" if isinstance(channels, int) and channels in CHANNELS else ""
        raise UnsupportedModelError(f"unet: takes {channels} channels and the VAE's latents have {latent}{what}")
    made = unet.get("out_channels", 4)
    if made != latent:
        raise UnsupportedModelError(f"unet: gives {made} channels and latents have {latent}")
    wide, width = unet.get("cross_attention_dim", 1280), text.get("hidden_size", 512)
    widths = wide if isinstance(wide, list | tuple) else [wide]
    if any(wanted != width for wanted in widths):
        raise UnsupportedModelError(f"unet: attends to text of width {wide} and the text encoder's is {width}")


def bare_unet(config: Mapping[str, Any]) -> nn.Module:
    """Builds the U-Net of a configuration on the meta device: its modules and shapes, without values.

    Raises:
        UnsupportedModelError: the configuration does not describe a U-Net.
    """
    return _bare("unet", config)


def _bare(part: str, config: Mapping[str, Any]) -> nn.Module:
    """Builds any part on the meta device, as `bare_unet` does the U-Net."""
    return _built(part, json.dumps(config, sort_keys=True))


@lru_cache(maxsize=12)
def _built(part: str, config: str) -> nn.Module:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    makers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "unet": ("U-Net", UNet2DConditionModel.from_config),
        "vae": ("AutoencoderKL", AutoencoderKL.from_config),
        "text_encoder": ("CLIP text encoder", lambda values: CLIPTextModel(CLIPTextConfig.from_dict(values))),
    }
    what, make = makers[part]
    try:
        with torch.device("meta"):
            return make(json.loads(config))
    except Exception as error:  # the libraries raise exceptions of many classes for a wrong value
        why = " ".join(str(error).split())
        raise UnsupportedModelError(f"{part}: config.json describes no {what} ({why})") from error
