"""Loads the parts of a checkpoint in `StableDiffusionPipeline` layout, from a local folder or the hub.

Each part is loaded with its own `from_pretrained`, as the pipeline loads it. The pipeline itself is not built, because
a benchmark needs neither its safety checker nor its image processor.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.inspection import PARTS, Inspection, from_single_file, inspect_model, sample_size
from models.schedulers import ddim
from models.weight_files import LAYOUT, UnsupportedModelError


class MissingModelError(FileNotFoundError):
    """A model, or a file of it, is not on this machine or cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Components:
    """The parts of a latent diffusion model, as diffusers and transformers load them."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any


def find_model(reference: str) -> str:
    """The path of the folder that `reference` names, with `~` expanded, or the hub id that it is.

    Raises:
        MissingModelError: `reference` is neither an existing folder nor a hub id.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.is_file():
        raise MissingModelError(f"model {reference}: is one file, not {LAYOUT}; {from_single_file(folder.name)}")
    if reference.startswith((".", "/", "~")) or reference.count("/") != 1:
        raise MissingModelError(
            f"model {reference}: there is no such folder; give a folder in StableDiffusionPipeline layout, "
            "a hub id (owner/name), or a name that `bench list models` knows"
        )
    return reference


def inspected(reference: str) -> Inspection | None:
    """The inspection of a model that is on this machine; None for a hub id that is not in the cache.

    Raises:
        MissingModelError: there is no such folder.
        UnsupportedModelError: the model is not supported (see `models.inspection`).
    """
    source = find_model(reference)
    folder = Path(source)
    if folder.is_dir():
        return inspect_model(folder)
    snapshot = _snapshot(source)
    # The weights need not be in the cache: `load_components` may fetch them.
    return inspect_model(snapshot, weights=False) if snapshot else None


def _snapshot(repository: str) -> Path | None:
    """The folder in the hub's cache that holds the configurations of all parts; None if one is not cached."""
    from huggingface_hub import try_to_load_from_cache

    files = ["model_index.json", *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder"))]
    files += ["scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"]
    paths = [try_to_load_from_cache(repository, name) for name in files]
    return Path(str(paths[0])).parent if all(isinstance(path, str) for path in paths) else None


def load_components(reference: str, dtype: torch.dtype = torch.float32) -> Components:
    """Loads the parts of the model `reference` on the CPU.

    Args:
        reference: a local folder or a hub id (`owner/name`).
        dtype: precision of the weights of the U-Net, the VAE and the text encoder.

    Raises:
        MissingModelError: the weights are neither in a folder nor in the cache, and cannot be fetched.
        UnsupportedModelError: the weights are not those that the configurations describe.
    """
    source = find_model(reference)
    # The cache is read first, so that a model that is cached needs no network.
    for offline in (True, False) if not Path(source).is_dir() else (True,):
        if not offline and os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            break
        try:
            return _loaded(source, dtype, offline)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"model {reference}: {error}") from error
        except OSError as error:
            problem = error
    if Path(source).is_dir():
        raise MissingModelError(f"model {reference}: {str(problem).splitlines()[0]}") from problem
    raise MissingModelError(
        f"model {reference}: its weights are not on this machine and could not be fetched; "
        f"fetch them with `bench weights fetch {reference}`, or name a local folder in StableDiffusionPipeline layout"
    ) from problem


def _loaded(source: str, dtype: torch.dtype, offline: bool) -> Components:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    local: Any = {"local_files_only": offline}
    inspection = inspected(source)
    files = inspection.weights if inspection else {}

    def part(cls: Any, name: str, **options: Any) -> Any:
        options |= (files[name].options if name in files else {}) | local
        model, info = cls.from_pretrained(source, subfolder=name, output_loading_info=True, **options)
        lacking = sorted(info["missing_keys"])
        if lacking:  # the libraries would initialise them at random
            raise UnsupportedModelError(f"{name} lacks {len(lacking)} weights, {lacking[0]} first")
        return model

    unet = part(UNet2DConditionModel, "unet", torch_dtype=dtype)
    vae = part(AutoencoderKL, "vae", torch_dtype=dtype)
    if unet.config.sample_size is None:
        unet.register_to_config(sample_size=sample_size(unet.config, vae.config))
    if inspection:
        sampling = inspection.sampling
    else:
        sampling = ddim(DDIMScheduler.load_config(source, subfolder="scheduler", **local))
    return Components(
        unet=unet,
        vae=vae,
        text_encoder=part(CLIPTextModel, "text_encoder", dtype=dtype),
        tokenizer=load_tokenizer(source) or CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", **local),
        scheduler=sampling.path.scheduler,
    )


def load_tokenizer(source: str) -> Any | None:
    """Loads the tokenizer of a folder or hub id (see `find_model`) without the network; None for a hub id not cached.

    Raises:
        MissingModelError: the folder's tokenizer has no vocabulary, or it cannot be read.
    """
    from transformers import CLIPTokenizer

    # Without these files transformers builds a tokenizer with an empty vocabulary, to which all prompts are the same.
    if not _cached(source, "tokenizer/tokenizer.json"):
        missing = [name for name in ("vocab.json", "merges.txt") if not _cached(source, f"tokenizer/{name}")]
        if missing and not Path(source).is_dir():
            return None
        if missing:
            raise MissingModelError(f"model {source}: its tokenizer has no {' and no '.join(missing)}")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain `Exception`
        raise MissingModelError(f"model {source}: its tokenizer cannot be read ({error})") from error
    length, where = tokenizer.model_max_length, "in tokenizer/tokenizer_config.json"
    if not isinstance(length, int | float) or length < SHORTEST:
        raise MissingModelError(
            f"model {source}: model_max_length is {length!r} {where}; expected a number of at least {SHORTEST}"
        )
    if tokenizer.pad_token_id is None:
        raise MissingModelError(f"model {source}: its tokenizer has no pad_token, which prompts are filled up with")
    return tokenizer


SHORTEST = 3
"""Tokens of the shortest prompt with content: the start mark, one token of its own, the end mark."""


def load_text_config(source: str) -> Any | None:
    """Loads the text encoder's `transformers.CLIPTextConfig` without the network; None for a hub id not cached.

    Raises:
        MissingModelError: the folder has no such configuration, or it cannot be read.
    """
    from transformers import CLIPTextConfig

    if not _cached(source, "text_encoder/config.json"):
        if not Path(source).is_dir():
            return None
        raise MissingModelError(f"model {source}: its text_encoder has no config.json")
    try:
        return CLIPTextConfig.from_pretrained(source, subfolder="text_encoder", local_files_only=True)
    except (OSError, ValueError) as error:
        raise MissingModelError(f"model {source}: its text_encoder's configuration cannot be read") from error


def token_limit(tokenizer: Any, text_encoder_config: Any) -> int:
    """The number of tokens that the text encoder reads of a prompt, start and end marks included.

    transformers gives a tokenizer without a configured length a `model_max_length` of 1e30; a configured one may
    exceed the text encoder's positions.
    """
    return int(min(tokenizer.model_max_length, text_encoder_config.max_position_embeddings))


def _cached(source: str, name: str) -> bool:
    """Whether a file of a folder or hub id is on this machine."""
    if Path(source).is_dir():
        return (Path(source) / name).is_file()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source, name), str)


def model_hash(reference: str) -> str:
    """The SHA-256, in hexadecimal, of a local folder's weights and configurations, or of a hub model's id."""
    digest = hashlib.sha256()
    folder = Path(reference)
    if not folder.is_dir():
        digest.update(reference.encode())
        return digest.hexdigest()
    for part in PARTS:
        for file in sorted((folder / part).rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(folder)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
