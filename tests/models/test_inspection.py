"""A model's folder looked at before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from models.families.stable_diffusion import StableDiffusion
from models.inspection import inspect_model, kind_of
from models.loading import MissingModelError, inspected, load_components
from models.tiny import write_tiny_pipeline
from models.weight_files import UnsupportedModelError, find_weights
from tests.models.changed import changed, rescheduled

UNET = "unet/config.json"


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refused(folder: Path) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        inspect_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tiny_model_is_supported_and_has_nothing_to_say(tiny_model):
    found = inspect_model(tiny_model)
    assert found.notes == ()
    assert found.weights["unet"].options == {"variant": None, "use_safetensors": True}


# -- another kind of model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("StableDiffusionXLPipeline", "Stable Diffusion XL"),
        ("StableDiffusionXLInpaintPipeline", "Stable Diffusion XL"),
        ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
        ("FluxPipeline", r"FLUX\.1"),
        ("Flux2Pipeline", r"FLUX\.2"),
        ("QwenImagePipeline", "Qwen-Image"),
        ("PixArtSigmaPipeline", "PixArt"),
        ("LatentConsistencyModelPipeline", "latent consistency"),
    ],
)
def test_a_folder_of_another_family_is_named_as_what_it_is(pipeline, words, tmp_path):
    """Only its index is looked at: such folders have other parts (a transformer, three text encoders)."""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline, "transformer": ["diffusers", "X"]}))
    with pytest.raises(
        UnsupportedModelError, match=rf"is (a )?{words}.*\({pipeline}\).*supported is Stable Diffusion 1\.x"
    ):
        inspect_model(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (
            {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]},
            "text_encoder_2 CLIPTextModelWithProjection",
        ),
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "controlnet ControlNetModel"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "text_encoder T5EncoderModel"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "unet UNet3DConditionModel"),
        ({"vae": ["diffusers", "AutoencoderTiny"]}, "vae AutoencoderTiny"),
        ({"text_encoder": None}, "text_encoder is missing"),
    ],
)
def test_parts_that_are_not_used_or_not_known_are_named(index, words, tiny_model, tmp_path):
    assert words in refused(changed(tiny_model, tmp_path / "model", "model_index.json", **index))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addition_embed_type": "text_time"}, "Stable Diffusion XL"),
        ({"addition_embed_type": "image"}, "addition_embed_type image"),
        ({"class_embed_type": "timestep"}, "class-conditional (timestep)"),
        ({"num_class_embeds": 10}, "class-conditional"),
        ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type image_proj"),
        ({"time_cond_proj_dim": 256}, "guidance scale as an input"),
        ({"in_channels": 9}, "takes 9 channels and the VAE's latents have 4; it is for inpainting"),
        ({"in_channels": 8}, "for instructed editing"),
        ({"out_channels": 8}, "gives 8 channels"),
        ({"cross_attention_dim": 16}, "attends to text of width 16 and the text encoder's is 8"),
        ({"cross_attention_dim": [8, 16]}, "attends to text of width [8, 16]"),
        ({"_class_name": "UNet2DModel"}, "unet: is a UNet2DModel"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantised"),
        ({"down_block_types": ["NoSuchBlock", "DownBlock2D"]}, "describes no U-Net"),
    ],
)
def test_a_unet_that_text_and_time_do_not_suffice_is_refused(changes, words, tiny_model, tmp_path):
    assert words in refused(changed(tiny_model, tmp_path / "model", UNET, **changes))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("vae/config.json", {"shift_factor": 0.06}, "shift_factor"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "vae: is a AutoencoderTiny"),
        ("text_encoder/config.json", {"model_type": "t5"}, "text_encoder: is a t5"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type 'sample'"),
    ],
)
def test_another_part_of_another_kind_is_refused(file, changes, words, tiny_model, tmp_path):
    assert words in refused(changed(tiny_model, tmp_path / "model", file, **changes))


def test_weights_and_configuration_of_different_models_are_refused(model):
    config = json.loads((model / UNET).read_text())
    wider = UNet2DConditionModel(**{k: v for k, v in config.items() if not k.startswith("_")} | {"layers_per_block": 2})
    wider.save_config(model / "unet")
    assert "weights are missing" in refused(model)
    (model / UNET).write_text(json.dumps({**config, "attention_head_dim": 2, "block_out_channels": [8, 32]}))
    assert "and config.json describes" in refused(model)


# -- folders that are no model ---------------------------------------------------------------------------------


def test_what_a_folder_is_instead(tiny_model, tmp_path):
    assert "lacks" in refused_after(tiny_model, tmp_path / "a", lambda folder: shutil.rmtree(folder / "vae"))
    assert kind_of(tiny_model / "unet") == "is one part of a model (UNet2DConditionModel)"
    assert kind_of(tiny_model / "text_encoder") == "is one part of a model (CLIPTextModel)"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "pytorch_lora_weights.safetensors").write_bytes(b"")
    assert "is a LoRA adapter" in refused(adapter)
    single = tmp_path / "single"
    single.mkdir()
    (single / "dreamy.safetensors").write_bytes(b"")
    assert "from_single_file('dreamy.safetensors')" in refused(single)
    shutil.copytree(tiny_model, tmp_path / "outer" / "inner")
    assert "holds a model in inner" in refused(tmp_path / "outer")
    (tmp_path / "empty").mkdir()
    assert "has no model_index.json, unet" in refused(tmp_path / "empty")


def refused_after(model: Path, folder: Path, change) -> str:
    shutil.copytree(model, folder)
    change(folder)
    return refused(folder)


def test_a_single_file_is_said_to_be_one(tiny_model):
    file = tiny_model / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(MissingModelError, match="is one file"):
        inspected(str(file))


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\xff"])
@pytest.mark.parametrize("file", ["model_index.json", UNET, "scheduler/scheduler_config.json"])
def test_a_damaged_configuration_is_named(file, content, model):
    (model / file).write_bytes(content.encode("latin-1"))
    assert Path(file).name in refused(model)


# -- weights ---------------------------------------------------------------------------------------------------


def test_weights_in_half_precision_alone_are_used_and_said(tiny_model, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model, safety_checker=None, torch_dtype=torch.float16)
    folder = tmp_path / "fp16"
    pipeline.save_pretrained(folder, variant="fp16")
    found = inspect_model(folder)
    assert [files.variant for files in found.weights.values()] == ["fp16"] * 3
    assert found.notes == ("its weights of unet and vae and text_encoder exist as fp16 only, and those are used",)
    parts = load_components(str(folder))
    own = load_file(tiny_model / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    torch.testing.assert_close(parts.unet.conv_in.weight.data, own.half().float(), rtol=0, atol=0)


def test_plain_weights_come_before_half_precision(tiny_model, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(tiny_model, folder)
    shutil.copy(
        folder / "unet/diffusion_pytorch_model.safetensors", folder / "unet/diffusion_pytorch_model.fp16.safetensors"
    )
    assert inspect_model(folder).weights["unet"].files == ("diffusion_pytorch_model.safetensors",)
    assert inspect_model(folder).notes == ()


def test_weights_in_pytorchs_format_are_read(tiny_model, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model, safety_checker=None)
    folder = tmp_path / "bin"
    pipeline.save_pretrained(folder, safe_serialization=False)
    for file in (folder / "text_encoder").glob("*.safetensors"):  # transformers 5 writes nothing else
        torch.save(load_file(file), folder / "text_encoder" / "pytorch_model.bin")
        file.unlink()
    assert not list(folder.rglob("*.safetensors"))
    parts = load_components(str(folder))
    whole = load_components(str(tiny_model))
    for name in ("unet", "vae", "text_encoder"):
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(getattr(parts, name).state_dict()[key], value), f"{name}: {key}"


def test_weights_in_shards_are_read(tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "shards"))
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="50KB")
    found = inspect_model(folder).weights["unet"]
    assert len(found.files) > 1
    torch.testing.assert_close(load_components(str(folder)).unet.conv_in.weight, unet.conv_in.weight)
    (folder / "unet" / found.files[0]).unlink()
    assert f"{found.files[0]} of" in refused(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weights_of_a_part_are_named(part, model):
    for file in (model / part).glob("*.safetensors"):
        file.unlink()
    assert f"{part}: its weights are missing" in refused(model)


def test_a_download_that_was_cut_is_named(model):
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "vae/diffusion_pytorch_model.safetensors: is damaged or cut short" in refused(model)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "pointer of Git LFS" in refused(model)
    file.write_bytes(b"")
    assert "cut short" in refused(model)


def test_weights_that_a_part_lacks_are_not_drawn_at_random(model):
    file = model / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    weights.pop(next(name for name in weights if "fc1.weight" in name))
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="text_encoder: 1 of 20 weights are missing"):
        load_components(str(model))


def test_the_names_of_variants(tmp_path):
    names = ("model.fp16.safetensors", "model.safetensors.index.json", "model.safetensors.index.fp16.json", "notes.txt")
    for name in names:
        (tmp_path / name).write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(UnsupportedModelError, match=r"every file of model\.safetensors\.index\.json is missing"):
        find_weights(tmp_path, "model")


# -- sizes -----------------------------------------------------------------------------------------------------


def test_a_unet_without_a_size_takes_the_vaes(tiny_model, tmp_path):
    folder = changed(tiny_model, tmp_path / "model", UNET, sample_size=None)
    assert inspect_model(folder).notes == ("its U-Net names no sample_size: latents of 4 stand for the VAE's 8 pixels",)
    assert StableDiffusion.load(str(folder)).state_shape == (4, 4, 4)


def test_no_size_at_all_is_refused(tiny_model, tmp_path):
    folder = changed(tiny_model, tmp_path / "model", UNET, sample_size=None)
    (folder / "vae/config.json").write_text(
        json.dumps({**json.loads((folder / "vae/config.json").read_text()), "sample_size": None})
    )
    assert "no sample_size" in refused(folder)


def test_a_size_of_two_sides_is_kept(tmp_path):
    folder = write_tiny_pipeline(tmp_path / "wide")
    wide = changed(folder, tmp_path / "model", UNET, sample_size=[4, 8])
    assert StableDiffusion.load(str(wide)).state_shape == (4, 4, 8)


def test_a_foreign_scheduler_is_a_note(tiny_model, tmp_path):
    folder = rescheduled(tiny_model, tmp_path / "model", _class_name="PNDMScheduler", steps_offset=0)
    (note,) = inspect_model(folder).notes
    assert "PNDMScheduler: DDIM takes its place" in note


# -- values that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        (UNET, {"in_channels": [4]}, r"takes \[4\] channels"),
        (UNET, {"attention_head_dim": 0}, "describes no U-Net"),
        (UNET, {"act_fn": 5}, "describes no U-Net"),
        (UNET, {"sample_size": "64"}, "sample_size is '64'; expected one or two whole numbers"),
        (UNET, {"sample_size": [4, 4, 4]}, r"sample_size is \[4, 4, 4\]"),
        (UNET, {"sample_size": 0}, "sample_size is 0"),
        ("vae/config.json", {"out_channels": 6}, "gives images of 6 channels"),
        ("vae/config.json", {"scaling_factor": "0.18"}, "scaling_factor is '0.18'"),
        ("vae/config.json", {"down_block_types": 3}, "describes no AutoencoderKL"),
        ("vae/config.json", {"layers_per_block": 2}, "vae: .* weights are missing, .*of different models"),
        ("text_encoder/config.json", {"num_hidden_layers": "1"}, "describes no CLIP text encoder"),
        ("text_encoder/config.json", {"num_hidden_layers": 2}, "text_encoder: 16 of 36 weights are missing"),
        (
            "text_encoder/config.json",
            {"max_position_embeddings": 16},
            r"text_encoder: .*position_embedding.weight is \[8, 8\] and config.json describes \[16, 8\]",
        ),
    ],
)
def test_a_value_that_makes_no_part_is_refused_before_it_is_loaded(file, values, words, tiny_model, tmp_path):
    with pytest.raises(UnsupportedModelError, match=words):
        inspect_model(changed(tiny_model, tmp_path / "model", file, **values))


def test_a_torch_file_that_was_cut_is_refused(model):
    whole = model / "vae/diffusion_pytorch_model.safetensors"
    old = whole.with_suffix(".bin")
    torch.save(load_file(whole), old)
    whole.unlink()
    assert inspect_model(model).weights["vae"].files == (old.name,)
    old.write_bytes(old.read_bytes()[:3000])
    assert "vae/diffusion_pytorch_model.bin: is damaged or cut short" in refused(model)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_the_names_that_libraries_gave_weights_before_are_known(ending, model):
    """As in Stable Diffusion 1.4 to 2.1: attention of the VAE, prefix and positions of the text encoder."""
    renamed = (("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn."))
    for path in (model / "vae/diffusion_pytorch_model.safetensors", model / "text_encoder/model.safetensors"):
        weights = load_file(path)
        for new, old in renamed:
            weights = {name.replace(f".{new}", f".{old}"): value for name, value in weights.items()}
        if path.parent.name == "text_encoder":
            weights = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in weights.items()}
            weights["text_model.embeddings.position_ids"] = torch.arange(8)[None]
        if ending == "bin":
            path.unlink()
            torch.save(weights, path.with_suffix(".bin"))
        else:
            save_file(weights, path)
    if ending == "bin":
        (model / "text_encoder/model.bin").rename(model / "text_encoder/pytorch_model.bin")
    inspect_model(model)
    load_components(str(model))


def test_an_encoder_of_image_prompts_is_left_alone(model):
    index = json.loads((model / "model_index.json").read_text())
    index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    (model / "model_index.json").write_text(json.dumps(index))
    assert inspect_model(model).notes == ()


def test_the_scheduler_that_the_index_names_is_looked_at_too(model):
    """diffusers gives the configuration to that class, whatever it says itself."""
    index = json.loads((model / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (model / "model_index.json").write_text(json.dumps(index))
    assert "FlowMatchEulerDiscreteScheduler is set for flow matching" in refused(model)
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    (model / "model_index.json").write_text(json.dumps(index))
    assert "model_index.json names EulerDiscreteScheduler: DDIM takes its place" in inspect_model(model).notes[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_train_timesteps": 0}, "cannot be made"),
        ({"num_train_timesteps": -5}, "cannot be made"),
        ({"trained_betas": [0.1, 0.2]}, "has 2 trained_betas for 1000 num_train_timesteps"),
        ({"_class_name": "EulerDiscreteScheduler", "trained_betas": [0.1, 0.2]}, "has 2 trained_betas"),
        ({"beta_end": 5}, "some β is not from 0 to 1"),
    ],
)
def test_betas_that_are_none_are_refused(values, words, tiny_model, tmp_path):
    with pytest.raises(UnsupportedModelError, match=words):
        inspect_model(rescheduled(tiny_model, tmp_path / "model", **values))


def test_a_scheduler_that_needs_another_library_is_not_called_unknown(tiny_model, tmp_path):
    import diffusers

    if not hasattr(diffusers.DPMSolverSDEScheduler, "_backends"):
        pytest.skip("torchsde is installed")
    model = rescheduled(tiny_model, tmp_path / "model", _class_name="DPMSolverSDEScheduler")
    assert "DPMSolverSDEScheduler needs torchsde to be installed" in refused(model)
