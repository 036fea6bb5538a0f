"""Samples of every method on the same prompts and the same noise, so that a person sees what the reward did."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reports.frame import SPLIT_WORDS

THUMBNAIL = 192  # pixels; a page of large samples would not stay under its limit
ROOM = 5_000_000  # bytes of encoded pictures a page takes
MOST_VARIANTS = 24  # rows beside each other that a person still compares


Columns = tuple[tuple[str, str], ...]  # (prompt, split)
Cells = dict[float, dict[str, tuple["Image.Image | Path | None", ...]]]  # fraction -> variant -> a picture a column


@dataclass(frozen=True)
class Picture:
    """One sample. `fraction` of the budget spent: 0 before training, 1 at the end. `split` is of its prompt.

    `image` may be the file where it lies: what a page does not show is never opened.
    """

    variant: str
    seed: int
    point: int
    fraction: float
    prompt: str
    split: str
    image: Image.Image | Path


@dataclass(frozen=True)
class Sheet:
    """What the page shows: for each fraction, rows of one picture a column. Cells without a picture are None."""

    seed: int
    columns: tuple[tuple[str, str], ...]  # (prompt, split)
    fractions: tuple[float, ...]
    rows: Mapping[float, Mapping[str, tuple[Image.Image | None, ...]]]  # fraction -> variant -> images
    left_out: str = ""


def arrange(pictures: Sequence[Picture], variants: Sequence[str], still: Iterable[str] = ()) -> Sheet | None:
    """Sorts pictures into rows (in the order of `variants`) and columns (in their own order); None without pictures.

    One seed is shown, the lowest that most trained variants have. Variants in `still` train nothing, so they are
    shown beside every fraction, whatever their own seed. Fractions are taken to the nearest quarter. Of more than
    `MOST_VARIANTS` variants the first are shown.
    """
    if not pictures:
        return None
    still = set(still)
    seed = seed_to_show([(p.variant, p.seed) for p in pictures], still)
    kept = [p for p in pictures if p.seed == seed or p.variant in still]
    columns: Columns = tuple(dict.fromkeys((p.prompt, p.split) for p in sorted(kept, key=lambda p: p.split != "train")))
    moving = [p for p in kept if p.variant not in still]
    fractions = sorted({_quarter(p.fraction) for p in moving or kept})
    order = [v for v in dict.fromkeys([*variants, *(p.variant for p in kept)]) if any(p.variant == v for p in kept)]
    order.sort(key=lambda v: v not in still)
    more = len(order) - MOST_VARIANTS
    note = f"Left out: {more} of {len(order)} methods, those ranked last." if more > 0 else ""
    order = order[:MOST_VARIANTS]
    nearest_last = sorted(kept, key=lambda p: -abs(p.fraction - _quarter(p.fraction)))
    cells = {
        (p.variant, None if p.variant in still else _quarter(p.fraction), p.prompt, p.split): p.image
        for p in nearest_last
    }
    rows: Cells = {
        fraction: {
            variant: tuple(cells.get((variant, None if variant in still else fraction, *column)) for column in columns)
            for variant in order
        }
        for fraction in fractions
    }
    columns, rows, dropped = _fit(columns, rows)
    opened = {fraction: _all_opened(of_fraction) for fraction, of_fraction in rows.items()}
    return Sheet(seed, columns, tuple(opened), opened, f"{note} {dropped}".strip())


def seed_to_show(pairs: Iterable[tuple[str, int]], still: Iterable[str] = ()) -> int:
    """The lowest seed that most trained variants have.

    Args:
        pairs: variant and seed of everything that could be shown; not empty.
        still: variants that train nothing, which decide only where there are no others.
    """
    pairs, still = set(pairs), set(still)
    variants: dict[int, set[str]] = {}
    for variant, seed in {pair for pair in pairs if pair[0] not in still} or pairs:
        variants.setdefault(seed, set()).add(variant)
    return max(variants, key=lambda seed: (len(variants[seed]), -seed))


def grid(rows: Mapping[str, Mapping[str, Image.Image]], size: int = 96) -> Image.Image:
    """One picture: a row a variant in the mapping's order, a column a prompt, on white with labels.

    Args:
        rows: variant -> prompt -> image; a missing one is left blank.
        size: the side of a cell in pixels.
    """
    if not rows:
        raise ValueError("There are no rows to lay out.")
    prompts = list(dict.fromkeys(prompt for row in rows.values() for prompt in row))
    font = ImageFont.load_default(max(11, size // 7))
    margin = 14 + max(int(font.getlength(variant)) for variant in rows)
    head, gap = 2 * font.getbbox("Ag")[3] + 6, 4
    width, height = margin + len(prompts) * (size + gap), int(head) + len(rows) * (size + gap)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, prompt in enumerate(prompts):
        x = margin + column * (size + gap)
        draw.text((x, 2), _shortened(prompt, font, size), font=font, fill="#646b75")
    for index, (variant, row) in enumerate(rows.items()):
        y = int(head) + index * (size + gap)
        draw.text((0, y + size // 2), variant, font=font, fill="#1d2024", anchor="lm")
        for column, prompt in enumerate(prompts):
            if prompt in row:
                sheet.paste(_sized(row[prompt], size), (margin + column * (size + gap), y))
    return sheet


def final_grid(sheet: Sheet, size: int = 96, columns: int = 12) -> Image.Image:
    """`grid` of the sheet's last fraction: at most `columns` prompts, a third of them held out where there are any."""
    heldout = [i for i, (_, split) in enumerate(sheet.columns) if split != "train"]
    train = [i for i, (_, split) in enumerate(sheet.columns) if split == "train"]
    some = min(len(heldout), max(columns // 3, columns - len(train)))
    shown = [*train[: columns - some], *heldout[:some]]
    rows = sheet.rows[sheet.fractions[-1]]
    return grid(
        {
            variant: {sheet.columns[i][0]: image for i in shown if (image := images[i]) is not None}
            for variant, images in rows.items()
        },
        size,
    )


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(image: Image.Image) -> str:
    """A picture inside a page: PNG up to 96 pixels, where JPEG's blocks would show, JPEG above."""
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    if max(image.size) <= 96:
        kind, data = "png", png(image)
    else:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        kind, data = "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def column_words(prompt: str, split: str) -> str:
    """The prompt, marked where it was held out."""
    return prompt if split == "train" else f"{prompt} ({SPLIT_WORDS[split].split()[0]})"


def _quarter(fraction: float) -> float:
    return round(min(max(fraction, 0.0), 1.0) * 4) / 4


def _sized(image: Image.Image, size: int) -> Image.Image:
    enlarging = max(image.size) < size
    kind = Image.Resampling.NEAREST if enlarging and size % max(image.size) == 0 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize((size, size), kind)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text in at most two lines of `width`, cut with an ellipsis."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width or not lines[-1]:
            lines[-1] = joined
        elif len(lines) < 2:
            lines.append(word)
        else:
            lines[-1] += "…"
            break
    return "\n".join(lines)


def _fit(columns: Columns, rows: Cells) -> tuple[Columns, Cells, str]:
    """Leaves out fractions between the ends, then columns, until the pictures take no more than `ROOM` bytes.

    Returns:
        The columns and rows that stay, and a sentence on what does not, empty where all stay.
    """
    images = [i for of_fraction in rows.values() for row in of_fraction.values() for i in row if i is not None]
    if not images:
        return columns, rows, ""
    sample = images[:: max(1, len(images) // 8)]
    each = sum(len(data_uri(_opened(image))) for image in sample) / len(sample)
    room = int(ROOM / each)
    if len(images) <= room:
        return columns, rows, ""
    ends = tuple(dict.fromkeys((next(iter(rows)), next(reversed(rows)))))
    per_column = len(images) / (len(rows) * len(columns)) * len(ends)
    count = max(1, min(len(columns), int(room / per_column)))
    dropped = f"Left out to keep the page light: {len(columns) - count} of {len(columns)} prompts"
    return (
        columns[:count],
        {f: {v: row[:count] for v, row in rows[f].items()} for f in ends},
        f"{dropped} and the points between first and last.",
    )


def _all_opened(rows: Mapping[str, tuple[Image.Image | Path | None, ...]]) -> dict[str, tuple[Image.Image | None, ...]]:
    return {v: tuple(None if image is None else _opened(image) for image in row) for v, row in rows.items()}


def _opened(image: Image.Image | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    with Image.open(image) as file:
        return file.convert("RGB")
