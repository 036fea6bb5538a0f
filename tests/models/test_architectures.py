"""Published architectures have as many parameters as their publishers say."""

import pytest

from models.architectures import KNOWN, SD15
from models.dry import bare_components, configurations


def counted(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_stable_diffusion_15():
    parts = bare_components(SD15)
    assert counted(parts.unet) == 859_520_964
    assert counted(parts.vae) == 83_653_863
    assert counted(parts.text_encoder) == 123_060_480


def test_known_models_need_no_files():
    assert configurations(next(iter(KNOWN)))["unet"]["cross_attention_dim"] == 768


def test_a_folder_says_its_own(tiny_model):
    from diffusers import UNet2DConditionModel

    here = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    assert counted(bare_components(configurations(str(tiny_model))).unet) == counted(here)


def test_an_unknown_model_is_said():
    from models.loading import MissingModelError

    with pytest.raises(MissingModelError, match="its configuration is not on this machine"):
        configurations("nobody/has-this")
