"""The LoRA adapter of a denoiser (Hu et al. 2021): its weights, and which weights a prediction uses.

`lora.targets` are suffixes of the denoiser's module names, as PEFT takes them. PEFT 0.21 ignores an entry of the list
that matches no module, without a warning; `wrong_targets` reports it.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.choices import DEFAULT_TARGETS
from models.noise import keyed_generator

Weights = Mapping[str, Tensor]
"""An adapter's weights by name, as `Adapter.snapshot` gives them."""

Gathered = Callable[[list[nn.Parameter], bool], AbstractContextManager[None]]
"""Gathers sharded weights inside a block; the flag says whether values that the block writes to them are kept."""


def _unsharded(parameters: list[nn.Parameter], write: bool) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class AdapterSettings:
    """The settings of a LoRA adapter, whose initial weights are Gaussian as in AlignProp's code.

    Attributes:
        rank: r.
        alpha: the adapter is scaled by alpha / r; None means r.
        targets: suffixes of the names of the adapted modules.
        seed: seed of the initial weights.
    """

    rank: int = 4
    alpha: int | None = None
    targets: Sequence[str] = DEFAULT_TARGETS
    seed: int = 0


class Adapter:
    """A LoRA adapter in a denoiser.

    Args:
        denoiser: the frozen denoiser, to which the constructor adds the adapter.
        settings: settings of the adapter.

    Attributes:
        gathered: gathers sharded weights; DeepSpeed's third stage replaces it.

    Raises:
        ValueError: a target matches no module of the denoiser, or one without a LoRA layer.
    """

    def __init__(self, denoiser: Any, settings: AdapterSettings):
        from peft import LoraConfig, inject_adapter_in_model

        targets = list(settings.targets)
        wrong = wrong_targets(denoiser, targets)
        if wrong:
            raise ValueError(f"lora.targets: {'; '.join(wrong)}")
        self.denoiser = denoiser
        self.gathered: Gathered = _unsharded
        alpha = settings.rank if settings.alpha is None else settings.alpha
        self.config = LoraConfig(
            r=settings.rank, lora_alpha=alpha, target_modules=targets, init_lora_weights="gaussian"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_generator(settings.seed, "adapter").initial_seed())
            inject_adapter_in_model(self.config, denoiser)
        self._names = [name for name, parameter in denoiser.named_parameters() if parameter.requires_grad]
        for parameter in self.parameters():
            parameter.data = parameter.data.float()  # AdamW needs fp32 masters even under a bf16 base

    def parameters(self) -> list[nn.Parameter]:
        """The adapter's weights, in a fixed order."""
        return list(self._weights().values())

    def _weights(self) -> dict[str, nn.Parameter]:
        own = dict(self.denoiser.named_parameters())
        return {name: own[name] for name in self._names}

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the adapter's weights by name, on their device."""
        with self.gathered(self.parameters(), False):
            return {name: parameter.detach().clone() for name, parameter in self._weights().items()}

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Replaces the values of the adapter's weights."""
        own = self._weights()
        with self.gathered([own[name] for name in weights], True):
            for name, value in weights.items():
                own[name].copy_(value)

    @contextmanager
    def using(self, weights: Weights | Literal["base"], gradient: bool = False) -> Iterator[None]:
        """Predictions inside the block are those of the base model (the LoRA scale is zero), or use other weights.

        Do not enter the block between a forward pass of the policy and its backward pass: recomputation under gradient
        checkpointing would use the block's weights.

        Args:
            weights: the weights, or `base`.
            gradient: whether the gradient with respect to the denoiser's **input** is kept, as a vector-Jacobian
                product of the base model needs it; take it inside the block. No weight gets a gradient in either case.
        """
        with self.scaled(0.0) if isinstance(weights, str) else self._holding(weights):
            if not gradient:
                with torch.no_grad():
                    yield
                return
            trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
            for parameter in trained:
                parameter.requires_grad_(False)
            try:
                yield
            finally:
                for parameter in trained:
                    parameter.requires_grad_(True)

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Predictions inside the block use `factor` times the adapter's change of the base model.

        The product of the two matrices is scaled, so that 0 is the base model, 1 the adapter, and the change between
        them is linear in the weights (DRaFT, arXiv 2309.17400, section 5.3, scales the same way).
        """
        from peft.tuners.lora import LoraLayer

        layers = [module for module in self.denoiser.modules() if isinstance(module, LoraLayer)]
        scalings = [dict(layer.scaling) for layer in layers]
        for layer in layers:
            layer.scaling = {name: factor * scale for name, scale in layer.scaling.items()}
        try:
            yield
        finally:
            for layer, scaling in zip(layers, scalings, strict=True):
                layer.scaling = scaling

    @contextmanager
    def _holding(self, weights: Weights) -> Iterator[None]:
        own = self.snapshot()
        try:
            self.load(weights)
            yield
        finally:
            self.load(own)

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The adapter's layers, and PEFT's configuration, as diffusers saves them; call it on every worker."""
        from peft.utils import get_peft_model_state_dict

        config = self.config.to_dict()
        config["target_modules"] = sorted(config["target_modules"])
        with self.gathered(self.parameters(), False):
            layers = {
                name: value.detach().clone(memory_format=torch.contiguous_format)
                for name, value in get_peft_model_state_dict(self.denoiser).items()
            }
        return layers, {key: value for key, value in config.items() if value is not None}


class MovingAverage:
    """An exponential moving average of an adapter's weights, on their device.

    Args:
        weights: the first weights, as `Adapter.snapshot` gives them.

    Attributes:
        weights: the average by name, for `Adapter.using`.
    """

    def __init__(self, weights: Weights):
        self.weights: Weights = weights

    def update(self, present: Weights, decay: float) -> None:
        """Sets the average to `decay` average + (1 − `decay`) present."""
        self.weights = {name: decay * value + (1 - decay) * present[name] for name, value in self.weights.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The average by name, copied to the CPU."""
        return {name: value.cpu() for name, value in self.weights.items()}

    def load_state_dict(self, state: Weights) -> None:
        self.weights = {name: state[name].to(value.device) for name, value in self.weights.items()}


ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Layer classes of denoisers for which PEFT has a LoRA layer."""


def wrong_targets(denoiser: nn.Module, targets: Sequence[str]) -> list[str]:
    """One message for each entry of `lora.targets` that matches no module, or a module without a LoRA layer."""
    modules = {name: module for name, module in denoiser.named_modules() if name}
    problems = (_problem(target, modules) for target in dict.fromkeys(targets))
    return [problem for problem in problems if problem]


def _problem(target: str, modules: dict[str, nn.Module]) -> str | None:
    matched = {name: module for name, module in modules.items() if name == target or name.endswith(f".{target}")}
    unfit = next((name for name, module in matched.items() if not isinstance(module, ADAPTABLE)), None)
    if unfit is not None:
        inside = _suffixes({name: module for name, module in modules.items() if name.startswith(f"{unfit}.")})
        hint = f"; in it are {', '.join(inside)}" if inside else ""
        return f"{target!r} matches {unfit} ({type(modules[unfit]).__name__}), for which there is no LoRA layer{hint}"
    if not matched:
        return f"{target!r} matches no module of the denoiser; {_hint(target, _suffixes(modules))}"
    return None


def _suffixes(modules: dict[str, nn.Module]) -> list[str]:
    """The shortest suffix that names each adaptable layer, such as `to_q` or `to_out.0`."""
    layers = [name for name, module in modules.items() if isinstance(module, ADAPTABLE)]
    # The last component alone would be a bare number for `to_out.0` and `ff.net.2`.
    return list(dict.fromkeys(re.search(r"[A-Za-z_]\w*(\.\d+)*$", name)[0] for name in layers))  # type: ignore[index]


def _hint(target: str, suffixes: list[str]) -> str:
    if re.search(r"[*+?\[\](){}|^$\\]", target):
        return "entries are suffixes of module names, as to_q or attn2.to_k, not patterns"
    close = difflib.get_close_matches(target, suffixes, n=1)
    if close:
        return f"did you mean {close[0]!r}? entries are suffixes of module names"
    return f"entries are suffixes of module names: {', '.join(suffixes)}"
