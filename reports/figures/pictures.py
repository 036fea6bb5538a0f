"""Samples of every method on the same prompts and noise, which show a person what the reward did to the images."""

import base64
import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reports.formatting import listing
from reports.names import SPLIT_WORDS

SIZES = (512, 384, 256, 192)  # pixels; the page takes the largest at which all samples fit into `ROOM`
THUMBNAIL = SIZES[-1]
ROOM = 5_000_000  # most bytes of encoded pictures on a page
FEWEST_COLUMNS = 6  # prompts; before fewer are shown, the stages between first and last are left out
MOST_VARIANTS = 24  # rows; a person compares no more side by side


Columns = tuple[tuple[str, str], ...]  # (prompt, split)
Cells = dict[float, dict[str, tuple["Image.Image | Path | None", ...]]]  # fraction -> variant -> a picture a column


@dataclass(frozen=True)
class Picture:
    """One sample.

    Attributes:
        fraction: of the budget spent: 0 before training, 1 at the end.
        split: of its prompt.
        image: the image or its file; the file of a sample that no page shows is never opened.
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
    """The samples of a page: for each fraction, a row for each variant with a picture for each column, or None."""

    seed: int
    columns: tuple[tuple[str, str], ...]  # (prompt, split)
    fractions: tuple[float, ...]
    rows: Mapping[float, Mapping[str, tuple[Image.Image | None, ...]]]  # fraction -> variant -> images
    left_out: str = ""
    size: int = THUMBNAIL  # the largest side of an embedded picture
    unreadable: tuple[Path, ...] = ()  # files of samples that would have been shown


def arrange(
    pictures: Sequence[Picture], variants: Sequence[str], untrained: Iterable[str] = (), share: float = 1.0
) -> Sheet | None:
    """Arranges pictures in rows (in the order of `variants`) and columns (in their own order); None without pictures.

    The sheet shows one seed, the lowest that most trained variants have. Untrained variants stand beside every
    fraction, whatever their seed. Fractions are rounded to quarters. Only the first `MOST_VARIANTS` variants are shown.

    Args:
        variants: in the order of their rows.
        untrained: variants that do not train.
        share: the share of `ROOM` that the sheet may take.
    """
    if not pictures:
        return None
    untrained = set(untrained)
    seed = seed_to_show([(p.variant, p.seed) for p in pictures], untrained)
    kept = [p for p in pictures if p.seed == seed or p.variant in untrained]
    columns: Columns = tuple(dict.fromkeys((p.prompt, p.split) for p in sorted(kept, key=lambda p: p.split != "train")))
    moving = [p for p in kept if p.variant not in untrained]
    fractions = sorted({_quarter(p.fraction) for p in moving or kept})
    order = [v for v in dict.fromkeys([*variants, *(p.variant for p in kept)]) if any(p.variant == v for p in kept)]
    order.sort(key=lambda v: v not in untrained)
    more = len(order) - MOST_VARIANTS
    note = f"Left out: {more} of {len(order)} methods, those ranked last." if more > 0 else ""
    order = order[:MOST_VARIANTS]
    nearest_last = sorted(kept, key=lambda p: -abs(p.fraction - _quarter(p.fraction)))
    cells = {
        (p.variant, None if p.variant in untrained else _quarter(p.fraction), p.prompt, p.split): p.image
        for p in nearest_last
    }
    rows: Cells = {
        fraction: {
            variant: tuple(
                cells.get((variant, None if variant in untrained else fraction, *column)) for column in columns
            )
            for variant in order
        }
        for fraction in fractions
    }
    columns, rows, size, dropped = _fit(columns, rows, ROOM * share)
    unreadable: list[Path] = []
    opened = {fraction: _all_opened(of_fraction, unreadable) for fraction, of_fraction in rows.items()}
    left_out = f"{note} {dropped}".strip()
    return Sheet(seed, columns, tuple(opened), opened, left_out, size, tuple(dict.fromkeys(unreadable)))


def seed_to_show(pairs: Iterable[tuple[str, int]], untrained: Iterable[str] = ()) -> int:
    """The lowest seed that most trained variants have.

    Args:
        pairs: (variant, seed) of every sample; not empty.
        untrained: variants that do not train, which count only where there are no others.
    """
    pairs, untrained = set(pairs), set(untrained)
    variants: dict[int, set[str]] = {}
    for variant, seed in {pair for pair in pairs if pair[0] not in untrained} or pairs:
        variants.setdefault(seed, set()).add(variant)
    return max(variants, key=lambda seed: (len(variants[seed]), -seed))


def grid(rows: Mapping[str, Mapping[str, Image.Image]], size: int = 96) -> Image.Image:
    """One picture of a grid on white with labels: a row a variant in the mapping's order, a column a prompt.

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
    shown = _some_of_both(sheet.columns, columns)
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


def data_uri(image: Image.Image, size: int = THUMBNAIL) -> str:
    """The picture as a data URI: a JPEG, in full colour resolution where small, as blocks would show there."""
    image = image.convert("RGB")
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small = max(image.size) <= 96
    image.save(buffer, "JPEG", quality=92 if small else 88, subsampling=0 if small else 2)
    data = buffer.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def column_words(prompt: str, split: str) -> str:
    """The prompt, marked where it is held out."""
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


def _fit(columns: Columns, rows: Cells, most: float) -> tuple[Columns, Cells, int, str]:
    """Reduces the pictures to `most` bytes: makes them smaller, then drops prompts, then the stages between the ends.

    Returns:
        The columns and rows that stay, the size of a picture, and a sentence on what is left out ("" for nothing).
    """
    images = [i for of_fraction in rows.values() for row in of_fraction.values() for i in row if i is not None]
    some = (_opened(image, []) for image in images[:: max(1, len(images) // 8)])
    sample = [image for image in some if image is not None]
    each = 0.0
    for size in SIZES if sample else ():
        each = sum(len(data_uri(image, size)) for image in sample) / len(sample)
        if len(images) * each <= most:
            return columns, rows, size, ""
    if not sample:
        return columns, rows, THUMBNAIL, ""
    stages = list(rows)
    a_column = len(images) / (len(rows) * len(columns))  # pictures of one prompt at one stage
    count = int(most / each / (a_column * len(stages)))
    if count < min(FEWEST_COLUMNS, len(columns)):
        stages = list(dict.fromkeys((stages[0], stages[-1])))
        count = int(most / each / (a_column * len(stages)))
    chosen = _some_of_both(columns, max(1, min(len(columns), count)))
    left_out = [f"{len(columns) - len(chosen)} of {len(columns)} prompts"] if len(chosen) < len(columns) else []
    left_out += ["the points between first and last"] if len(stages) < len(rows) else []
    kept = {stage: {v: tuple(row[i] for i in chosen) for v, row in rows[stage].items()} for stage in stages}
    dropped = f"Left out to keep the page light: {listing(left_out)}." if left_out else ""
    return tuple(columns[i] for i in chosen), kept, THUMBNAIL, dropped


def _some_of_both(columns: Columns, count: int) -> list[int]:
    """The indices of `count` columns, a third of them held-out prompts where there are any."""
    heldout = [i for i, (_, split) in enumerate(columns) if split != "train"]
    train = [i for i, (_, split) in enumerate(columns) if split == "train"]
    some = min(len(heldout), max(count // 3, count - len(train)))
    return [*train[: count - some], *heldout[:some]]


def _all_opened(
    rows: Mapping[str, tuple[Image.Image | Path | None, ...]], unreadable: list[Path]
) -> dict[str, tuple[Image.Image | None, ...]]:
    return {
        variant: tuple(None if image is None else _opened(image, unreadable) for image in row)
        for variant, row in rows.items()
    }


def _opened(image: Image.Image | Path, unreadable: list[Path]) -> Image.Image | None:
    """The picture; None for a damaged file, whose path is added to `unreadable`."""
    if isinstance(image, Image.Image):
        return image
    try:
        with Image.open(image) as file:
            return file.convert("RGB")
    except DAMAGED:
        unreadable.append(image)
        return None


DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""The errors that Pillow raises for a file that is cut short, overwritten or no picture."""
