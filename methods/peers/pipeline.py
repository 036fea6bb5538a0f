"""Our policy as the pipeline that TRL's trainers train. It imports TRL, so import it only when a peer is built."""

from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from trl.models.modeling_sd_base import DefaultDDPOStableDiffusionPipeline

from models.families.stable_diffusion import StableDiffusion
from models.paths.ddim import DDIM
from models.policy import Policy


class PolicyPipeline(DefaultDDPOStableDiffusionPipeline):
    """TRL's pipeline around the policy's own modules, so that TRL trains the modules that the harness evaluates.

    TRL's own constructor is not called: it would load the checkpoint a second time and add another adapter.
    """

    def __init__(self, policy: Policy):
        family, path = policy.family, policy.path
        assert isinstance(family, StableDiffusion)
        assert isinstance(path, DDIM)  # the plan refuses others
        self.sd_pipeline = _Pipeline(
            **family.pipeline_parts(),
            # A copy, because TRL changes the number of inference steps of its scheduler.
            scheduler=DDIMScheduler.from_config(path.spaced(policy.sampler.spacing).config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.use_lora = True  # with an adapter TRL also uses no autocast

    def get_trainable_layers(self) -> nn.Module:
        """The U-Net with the policy's adapter in fp32, as TRL's own pipeline has it; its other weights are frozen."""
        for parameter in self.sd_pipeline.unet.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return self.sd_pipeline.unet

    def set_progress_bar_config(self, *args: Any, **kwargs: Any) -> None:
        """Disables the progress bar of each trajectory, whatever the trainer asks for."""
        self.sd_pipeline.set_progress_bar_config(disable=True)


class _Pipeline(StableDiffusionPipeline):
    def _encode_prompt(
        self,
        prompt: None,
        device: torch.device,
        images_per_prompt: int,
        guided: bool,
        negative_prompt: None = None,
        *,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """The embeddings for the U-Net: unconditional and conditional ones with guidance, else the conditional only.

        diffusers' own method returns both whenever it is given both, as TRL always does. Without guidance these are
        twice as many embeddings as latents, and the U-Net raises an error.
        """
        return torch.cat([negative_prompt_embeds, prompt_embeds]) if guided else prompt_embeds
