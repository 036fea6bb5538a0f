"""Object detectors of transformers that return log-odds and boxes with a gradient.

- `owlvit`: OWL-ViT (Minderer et al. 2022, arXiv 2205.06230), for any object that words can name. Each of its 576
  patches (ViT-B/32 at 768 pixels) predicts P(object) and a box, so several patches find one object.
- `yolos`: YOLOS (Fang et al. 2021, arXiv 2106.00666), for COCO's 80 classes. Each of its 100 tokens predicts P(class)
  and a box; it was trained to find an object once.

Preprocessing is a differentiable version of each model's own image processor; resizing is antialiased, as Pillow's.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rewards.published.clip import normalise, resize
from rewards.published.weights import Weights

OWLVIT = Weights(
    "google/owlvit-base-patch32",
    (
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ),
    "model",
    615_000_000,
    "Apache-2.0",
)
YOLOS = Weights(
    "hustvl/yolos-tiny",
    ("config.json", "model.safetensors", "preprocessor_config.json"),
    "model",
    26_000_000,
    "Apache-2.0",
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Detections(NamedTuple):
    """A detector's boxes for one object in each image.

    Attributes:
        log_odds: log P − log(1 − P) of each box to show the object, `[B, N]`.
        boxes: centre x, centre y, width and height, relative to the image's sides, `[B, N, 4]`.
    """

    log_odds: Tensor
    boxes: Tensor


class Detector(ABC):
    """A frozen detector, which the first call of `detect` loads.

    Args:
        folder: a folder in transformers' layout.

    Attributes:
        needs: the detector's files on the hub.
        kind: the `model_type` in the detector's config.
        threshold: probability from which on the detector's image processor counts a box as a find.
        weights: the file of the weights.

    Raises:
        FileNotFoundError: a file is missing in the folder.
        ValueError: the folder holds another kind of detector.
    """

    needs: ClassVar[Weights]
    kind: ClassVar[str]
    threshold: ClassVar[float]

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = json.loads(self._file("config.json").read_text(encoding="utf-8"))
        if (kind := self.config.get("model_type")) != self.kind:
            # Transformers would load it anyway, with random weights wherever the names differ.
            raise ValueError(f"detector {self.kind} cannot load {self.folder}: its config says model_type {kind!r}")
        self.weights = self._file("model.safetensors", "pytorch_model.bin")
        self.device = torch.device("cpu")
        self.model: Any = None

    @abstractmethod
    def check(self, name: str) -> None:
        """Raises `ValueError` if the detector cannot look for an object of this name."""

    def detect(self, images: Tensor, names: Sequence[str]) -> Detections:
        """Looks for one named object in each of the images `[B, 3, H, W]` in [0, 1]; differentiable."""
        if self.model is None:
            self.model = self._load().requires_grad_(False).eval().to(self.device)
        return self._detect(images.float(), names)

    @abstractmethod
    def _load(self) -> Any: ...

    @abstractmethod
    def _detect(self, images: Tensor, names: Sequence[str]) -> Detections: ...

    def _file(self, *names: str) -> Path:
        """The path of the first of `names` that is in the folder."""
        path = next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        if path is None:
            advice = f"give `model`, a folder with the files of {self.needs.repository}"
            raise FileNotFoundError(f"there is no {' or '.join(names)} in {self.folder}; {advice}")
        return path


class OwlVit(Detector):
    """OWL-ViT, with the query "a photo of a …" as in transformers' examples."""

    needs = OWLVIT
    kind = "owlvit"
    threshold = 0.1

    def check(self, name: str) -> None:
        """Accepts any name."""

    def _load(self) -> Any:
        from transformers import AutoTokenizer, OwlViTForObjectDetection

        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        return OwlViTForObjectDetection.from_pretrained(self.folder, dtype=torch.float32)

    def _detect(self, images: Tensor, names: Sequence[str]) -> Detections:
        config = self.model.config
        length, side = config.text_config.max_position_embeddings, config.vision_config.image_size
        queries = [f"a photo of {'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
        text = self.tokenizer(queries, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        output = self.model(
            input_ids=text["input_ids"].to(images.device),
            attention_mask=text["attention_mask"].to(images.device),
            pixel_values=normalise(resize(images, side, side)),  # a square, for images of any shape
        )
        return Detections(output.logits[..., 0], output.pred_boxes)


class Yolos(Detector):
    """YOLOS, with the classes in the folder's config."""

    needs = YOLOS
    kind = "yolos"
    threshold = 0.5

    def __init__(self, folder: Path):
        super().__init__(folder)
        labels = self.config.get("id2label", {})
        self.classes = {str(label).lower(): int(index) for index, label in labels.items() if label != "N/A"}
        self.shortest, self.longest = _edges(json.loads(self._file("preprocessor_config.json").read_text("utf-8")))

    def check(self, name: str) -> None:
        if name not in self.classes:
            raise ValueError(f"yolos knows no {name!r}; it knows {', '.join(sorted(self.classes))}")

    def _load(self) -> Any:
        from transformers import YolosForObjectDetection

        return YolosForObjectDetection.from_pretrained(self.folder, dtype=torch.float32)

    def _detect(self, images: Tensor, names: Sequence[str]) -> Detections:
        output = self.model(pixel_values=yolos_pixels(images, self.shortest, self.longest))
        classes = torch.tensor([self.classes[name] for name in names], device=images.device)
        classes = classes[:, None, None].expand(-1, output.logits.shape[1], 1)
        # P is a softmax over the classes and "no object". The difference to the log-sum of all other logits is exact
        # also for P near 0 and 1.
        others = output.logits.scatter(2, classes, float("-inf")).logsumexp(2)
        return Detections(output.logits.gather(2, classes).squeeze(2) - others, output.pred_boxes)


DETECTORS: dict[str, type[Detector]] = {kind.kind: kind for kind in (OwlVit, Yolos)}


def yolos_pixels(images: Tensor, shortest: int, longest: int) -> Tensor:
    """YOLOS's pixels from images `[B, 3, H, W]` in [0, 1]: bilinear, ImageNet's normalisation; differentiable.

    The shorter side is resized to `shortest`, or less if the longer side would exceed `longest`; both sizes are rounded
    down to multiples of 16.
    """
    height, width = images.shape[2:]
    short, long = min(height, width), max(height, width)
    exact = min(shortest, longest * short / long)
    # As in the processor, the shorter side is rounded and the longer side is truncated.
    sides = (round(exact), int(exact * long / short))
    high, wide = (max(16, side - side % 16) for side in (sides if height <= width else sides[::-1]))
    if (high, wide) != (height, width):
        images = F.interpolate(images, size=(high, wide), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def _edges(processor: dict[str, Any]) -> tuple[int, int]:
    """The shortest and the longest edge in a YOLOS processor's config; older configs hold them as two numbers."""
    size = processor.get("size", 800)
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": processor.get("max_size", 1333)}
    if "shortest_edge" not in size:
        raise ValueError(f"preprocessor_config.json: expected a shortest_edge in size, not {size}")
    return int(size["shortest_edge"]), int(size.get("longest_edge", 1333))
