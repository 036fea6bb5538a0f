"""Tables and figures as files of their own, for a paper or a spreadsheet."""

import io
import re
from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from reports.document import Document
from reports.figures import pictures
from reports.figures.curves import STYLE, png
from reports.formatting import NOTHING, cell_parts
from reports.tables.table import VALUE, Table
from reports.writers import report_markdown

ENDINGS = {"csv": "csv", "latex": "tex"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$",
    "∞": r"$\infty$", "±": r"$\pm$", "–": "--", "’": "'", "·": r"$\cdot$", "…": r"\ldots{}", "→": r"$\rightarrow$",
    "“": "``", "”": "''", "²": r"\textsuperscript{2}",
}  # fmt: skip


def tables(document: Document, kind: str) -> dict[str, bytes]:
    """`tables/NAME.csv` or `.tex` of every table; `kind` is "csv" or "latex"."""
    write = to_csv if kind == "csv" else to_latex
    return {
        f"tables/{prefix}{slug(table.title)}.{ENDINGS[kind]}": write(table).encode()
        for prefix, part in _parts(document)
        for table in part.all_tables
    }


def figures(document: Document, kind: str, shown: bool = False) -> dict[str, bytes]:
    """`figures/NAME.png`, `.svg` or `.pdf` of every figure; pictures are pixels and have no SVG.

    With `shown`, only those that the Markdown links to.
    """
    found = {}
    for prefix, part in _parts(document):
        for name, draw in part.drawings.items():
            if shown and name not in report_markdown.shown(part):
                continue
            found[f"figures/{prefix}{name}.{kind}"] = png(draw()) if kind == "png" else vector(draw(), kind, name)
        if part.sheet is not None and kind != "svg":
            image = pictures.final_grid(part.sheet)
            found[f"figures/{prefix}pictures.{kind}"] = pictures.png(image) if kind == "png" else _pdf(image)
    return found


def to_csv(table: Table) -> str:
    """The table as CSV: its numbers, not rounded, in the unit of their header; the text of a cell without numbers.

    A column "reward" that has a range is followed by "reward, low" and "reward, high".
    """
    columns: dict[str, list[float | str]] = {}
    for name, header in table.headers.items():
        found = [
            table.numbers.get((index, name), {} if text == NOTHING else {VALUE: str(text).replace("\n", " ")})
            for index, text in enumerate(table.cells[name])
        ]
        keys = dict.fromkeys(key for of_cell in found for key in of_cell)
        for key in keys or [VALUE]:
            words = header if key == VALUE else f"{header}, {key}"
            columns[words] = [of_cell.get(key, "") for of_cell in found]
    return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n", na_rep="NaN")


def to_latex(table: Table) -> str:
    r"""The table as a LaTeX `table` float: booktabs' rules, the title as its caption, the note under it."""
    columns = list(table.cells.columns)
    layout = "".join("l" if column in table.text else "r" for column in columns)
    lines = [" & ".join(_latex_cell(column) for column in columns) + r" \\", r"\midrule"]
    for index, row in enumerate(table.printed.itertuples(index=False)):
        cells = [_latex_cell(value, (index, column) in table.best) for column, value in zip(columns, row, strict=True)]
        lines.append(" & ".join(cells) + r" \\")
    note = f"\n\\\\[2pt]\\parbox{{\\linewidth}}{{\\footnotesize {latex(table.note)}}}" if table.note else ""
    body = "\n".join(lines)
    return (
        "% \\usepackage{booktabs,makecell,graphicx}\n"
        f"\\begin{{table}}\n\\centering\n\\caption{{{latex(table.title)}}}\n\\label{{tab:{slug(table.title)}}}\n"
        f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n"
        f"\\begin{{tabular}}{{{layout}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}}}{note}\n\\end{{table}}\n"
    )


def latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def slug(title: str) -> str:
    """ "Cost to mine’s final reward, 4.78" -> "cost-to-mines-final-reward"; numbers after a comma are left out."""
    words = re.sub(r", [\d.,−]+$", "", title).lower().replace("’", "")
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def vector(figure: Figure, kind: str, name: str) -> bytes:
    """The figure as PDF (fonts embedded) or SVG (text as text); the same figure gives the same bytes."""
    buffer = io.BytesIO()
    undated = {"Date": None} if kind == "svg" else {"CreationDate": None, "Producer": None, "Creator": None}
    with mpl.rc_context(STYLE | {"pdf.fonttype": 42, "svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata=undated)
    return buffer.getvalue()


def _latex_cell(text: object, best: bool = False) -> str:
    """A cell as LaTeX; of a best cell the value is bold, and not its range."""
    value = cell_parts(str(text))[0]
    parts = [latex(part) for part in str(text)[len(value) :].split("\n")]
    parts[0] = (rf"\textbf{{{latex(value)}}}" if best else latex(value)) + parts[0]
    return parts[0] if len(parts) == 1 else r"\makecell[r]{" + r" \\ ".join(parts) + "}"


def _pdf(image: pictures.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PDF", resolution=200, creationDate=None, modDate=None)
    return buffer.getvalue()


def _parts(document: Document) -> Iterator[tuple[str, Document]]:
    yield "", document
    for index, other in enumerate(document.others, 2):
        yield f"part-{index}-", other
