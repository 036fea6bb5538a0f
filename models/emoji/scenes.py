"""Renders captioned 64 x 64 scenes of emoji animals on plain backgrounds.

    python -m models.emoji.scenes --count 32000 --seed 0 --out build/emoji/scenes.npz

The file holds `images` (uint8 [N, 64, 64, 3]), `captions`, the labels `animal`, `colour`, `count` (int) and `named`
(whether the caption names the colour), and the names of the labels `animals`, `plurals`, `colours`, `held_out`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.emoji.vocabulary import ANIMALS, COLOURS, HELD_OUT, TRAINED, Animal, caption

SIZE = 64
FONT_NAME = "NotoColorEmoji.ttf"
FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/opt/homebrew/share/fonts",
    "~/Library/Fonts",
)
BITMAP_SIZE = 109  # the only bitmap size that the font has
SINGLE = 0.65  # share of scenes with one animal, as the alignment prompts have one animal
NAMED = 0.5  # share of captions that name the background

# Count -> centres of the animals in pixels. Slots are fixed, with one size for each count: with free placement a model
# of 4 M parameters did not learn the features of the animals.
SLOTS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((32, 32),),
    2: ((17, 32), (47, 32)),
    3: ((17, 17), (47, 17), (32, 47)),
    4: ((17, 17), (47, 17), (17, 47), (47, 47)),
}


def find_font(given: Path | None = None) -> Path:
    """The path of the colour emoji font: `given`, or the first one in `FONT_FOLDERS`.

    Raises:
        FileNotFoundError: there is no such file, or no font in the folders.
    """
    if given is not None:
        if not given.is_file():
            raise FileNotFoundError(f"No font at {given}.")
        return given
    for folder in FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob(FONT_NAME)):
            return path
    raise FileNotFoundError(
        f"{FONT_NAME} was not found: install the Debian package fonts-noto-color-emoji or pass --font PATH."
    )


def load_glyphs(font: Path) -> dict[str, Image.Image]:
    """Animal name -> its glyph as an RGBA image, cropped to the drawn pixels."""
    face = ImageFont.truetype(str(font), size=BITMAP_SIZE)
    glyphs = {}
    for animal in ANIMALS:
        canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((8, 8), animal.glyph, font=face, embedded_color=True)
        box = canvas.getbbox()
        if box is None:
            raise ValueError(f"{font} has no glyph for {animal.name} ({animal.glyph}); a newer Noto Color Emoji has.")
        glyphs[animal.name] = canvas.crop(box)
    return glyphs


class Painter:
    """Draws scenes, and keeps resized glyphs, of which there are only a few sizes."""

    def __init__(self, font: Path | None = None) -> None:
        self._glyphs = load_glyphs(find_font(font))
        self._resized: dict[tuple[str, int], Image.Image] = {}

    def _glyph(self, name: str, size: int) -> Image.Image:
        """The glyph of the animal `name`, its longer side `size` pixels long.

        It is resized with premultiplied alpha, which avoids dark rims, and bilinearly, because the autoencoder learns
        soft edges more easily.
        """
        if (name, size) not in self._resized:
            glyph = self._glyphs[name]
            scale = size / max(glyph.size)
            shape = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
            resized = glyph.convert("RGBa").resize(shape, Image.Resampling.BILINEAR).convert("RGBA")
            self._resized[name, size] = resized
        return self._resized[name, size]

    def paint(self, animal: Animal, colour: str, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draws one scene, uint8 [64, 64, 3].

        One animal is 50-58 pixels large and at most 2 pixels off its slot; 2 to 4 animals are 27-29 pixels large and
        at most 1 pixel off.
        """
        scene = Image.new("RGB", (SIZE, SIZE), COLOURS[colour])
        low, high, jitter = (50, 58, 2) if count == 1 else (27, 29, 1)
        for x, y in SLOTS[count]:
            glyph = self._glyph(animal.name, int(rng.integers(low, high + 1)))
            dx, dy = rng.integers(-jitter, jitter + 1, size=2)
            scene.paste(glyph, (int(x + dx - glyph.width // 2), int(y + dy - glyph.height // 2)), glyph)
        return np.asarray(scene, dtype=np.uint8)


def render(
    number: int, seed: int, font: Path | None = None, animals: tuple[Animal, ...] = ANIMALS
) -> dict[str, NDArray]:
    """Renders `number` scenes with the captions and labels that the module's docstring lists."""
    rng = np.random.default_rng(seed)
    painter = Painter(font)
    index_of = {animal.name: index for index, animal in enumerate(ANIMALS)}
    colours = list(COLOURS)
    images = np.empty((number, SIZE, SIZE, 3), dtype=np.uint8)
    labels = {key: np.empty(number, dtype=np.int64) for key in ("animal", "colour", "count")}
    named = rng.random(number) < NAMED
    captions = []
    for row in range(number):
        animal = animals[int(rng.integers(len(animals)))]
        colour = colours[int(rng.integers(len(colours)))]
        count = 1 if rng.random() < SINGLE else int(rng.integers(2, 5))
        images[row] = painter.paint(animal, colour, count, rng)
        labels["animal"][row] = index_of[animal.name]
        labels["colour"][row] = colours.index(colour)
        labels["count"][row] = count
        captions.append(caption(animal, count, colour if named[row] else None))
    return {"images": images, "captions": np.array(captions), "named": named, **labels, **label_names()}


def label_names() -> dict[str, NDArray]:
    """The names behind the label numbers, so that a file of scenes can be read without this package."""
    return {
        "animals": np.array([animal.name for animal in ANIMALS]),
        "plurals": np.array([animal.plural for animal in ANIMALS]),
        "colours": np.array(list(COLOURS)),
        "held_out": np.array([animal.name for animal in HELD_OUT]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Render captioned emoji scenes to an npz file.")
    parser.add_argument("--count", type=int, default=32_000, help="number of scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--trained-only", action="store_true", help="leave the six held-out animals out")
    parser.add_argument("--font", type=Path, help=f"path of {FONT_NAME} (default: searched in the usual folders)")
    parser.add_argument("--out", type=Path, default=Path("build/emoji/scenes.npz"), help="default: %(default)s")
    options = parser.parse_args()
    scenes: Any
    try:
        animals = TRAINED if options.trained_only else ANIMALS
        scenes = render(options.count, options.seed, options.font, animals)
    except (FileNotFoundError, ValueError) as problem:
        raise SystemExit(str(problem)) from None
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, **scenes)
    print(f"{options.count} scenes in {options.out}")


if __name__ == "__main__":
    main()
