"""Facts about weights that the package holds: a hub model's files, sizes and licences, and the hashes of files."""

from pathlib import Path

from rewards.published.weights import Weights

LAYOUT = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
"""The files of a hub model that a run reads: no pickles, no second copies in half precision, no safety checker."""

OPTIONAL_FILES = ("tokenizer/*.json",)
"""Patterns of files that are fetched with `LAYOUT` if the repository has them."""


KNOWN_MODELS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Weights(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        LAYOUT,
        "model",
        size=4_266_665_000,
        licence="CreativeML OpenRAIL-M",
        sha256={
            "text_encoder/model.safetensors": "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
            "unet/diffusion_pytorch_model.safetensors": (
                "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1"
            ),
            "vae/diffusion_pytorch_model.safetensors": (
                "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c"
            ),
        },
    ),
}
"""Hub models of the shipped sweeps, with what is known before they are fetched."""

SHIPPED = {
    "models/emoji/v1": "8a4cb987bdc5377238e1ca182ecaa97c01619cd3ab0dc674a54b26bc1f6847c9",
    "rewards/emoji/aesthetic.safetensors": "d475b7e39dc8ef21ceda74a8dc9e3485d44dd0223b467fd6fedf7e2952552937",
    "rewards/emoji/alignment.safetensors": "2ea65730bc6439e8453a8ee8ca5375f8d5606019393eb338d8172d4b875b8859",
    "rewards/emoji/classifier.safetensors": "bfd1181e8f08e7b5c650beb13030666e4c9c43a0bf4298e5096dd0fb889ab25f",
    "rewards/emoji/count.safetensors": "db64a40eb0c47d8aa7ee6dd9f0170f50ac0896654c50c26d8ddfa29cbc0636da",
}
"""Hashes of the weights in the package, as trials record them: `model_hash` of a model, a reward's `weights_sha256`."""

ROOT = Path(__file__).resolve().parents[3]


def place(shipped: Path) -> str:
    """The path of a file relative to the package's root; an outside file's path unchanged."""
    return shipped.relative_to(ROOT).as_posix() if shipped.is_relative_to(ROOT) else str(shipped)
