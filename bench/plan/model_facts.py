"""What the plan of a sweep needs to know of its model: found before any trial builds it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bench.authors import place_of
from bench.build.plugins import load_family, names_family, source_hash
from bench.errors import BenchError, cause_of
from models.families.base import Family
from models.families.stable_diffusion import StableDiffusion
from models.inspection import bare_unet
from models.loading import find_model, inspected, model_hash
from models.paths.base import NoisePath
from models.sampler import SamplerSettings


@dataclass(frozen=True)
class ModelFacts:
    """A model as a plan sees it.

    Attributes:
        family: the name of its family (`models.families.base.Family.name`).
        hash: computes the SHA-256 of its weights and of what else decides its predictions.
        denoiser: its denoiser, possibly without values; None for a hub model that has not been fetched yet.
        path: its noise process; None for such a hub model too.
        sampler_version: version of the code that samples it (see `models.schedulers`).
        notes: sentences that a reader of its results must know.
    """

    family: str
    hash: Callable[[], str]
    denoiser: nn.Module | None = None
    path: NoisePath | None = None
    sampler_version: str = "1"
    notes: tuple[str, ...] = ()


def facts_of(model: str) -> ModelFacts:
    """The facts of a model: from its files, or from building it if it is a family of one's own.

    Args:
        model: as `bench.build.plugins.resolve_model` returns it.

    Raises:
        MissingModelError: there is no such folder.
        UnsupportedModelError: a checkpoint is not supported (see `models.inspection`).
        BenchError: a family of one's own cannot be built or breaks its contract.
    """
    if names_family(model):
        return _own(model)
    found, digest = inspected(model), lambda: model_hash(find_model(model))
    if found is None:
        return ModelFacts(StableDiffusion.name, digest)
    sampling = found.sampling
    return ModelFacts(StableDiffusion.name, digest, bare_unet(found.unet), sampling.path, sampling.version, found.notes)


def _own(reference: str) -> ModelFacts:
    family = load_family(reference)
    try:
        wrong = _broken_clause(family)
    except Exception as error:
        place = place_of(error)
        where = f" ({place})" if place else ""
        raise BenchError(f"model {reference}: one prompt cannot be sampled: {cause_of(error)}{where}") from error
    if wrong:
        raise BenchError(f"model {reference}: {wrong}")
    return ModelFacts(family.name, lambda: _hash(reference, family), family.parts["denoiser"], family.path)


@torch.no_grad()
def _broken_clause(family: Family) -> str | None:
    """The first clause of the contract that the family breaks on one row, in one sentence; None if it keeps them."""
    shape, path = family.state_shape, family.path
    conditioning = family.encode("")
    if len(conditioning) != 1 or any(len(tensor) != 1 for tensor in conditioning.tensors):
        return "encode(prompt) must give one row for the prompt"
    state = path.start(torch.zeros(1, *shape))
    output = family.output(family.parts["denoiser"], state, path.times(SamplerSettings(1))[:1], *conditioning.tensors)
    if output.shape != state.shape:
        return f"output(...) has the shape {list(output.shape)}; expected that of the state, {list(state.shape)}"
    images = family.decode(state)
    if images.dim() != 4 or images.shape[:2] != (1, 3) or images.dtype != torch.float32:
        return f"decode(final) gives {images.dtype} {list(images.shape)}; expected float32 [1, 3, height, width]"
    return None


def _hash(reference: str, family: Family) -> str:
    """SHA-256 of the family's source and of every weight and buffer of its parts."""
    digest = hashlib.sha256(source_hash(reference).encode())
    for part, module in sorted(family.parts.items()):
        for name, tensor in module.state_dict().items():
            digest.update(f"{part} {name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            # Flat, because a single number, such as a batch normalisation's count, cannot be viewed as bytes.
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
