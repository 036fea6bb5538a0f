"""The README's code blocks, for tests."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line.partition("  #")[0].strip() for kind, text in BLOCKS if not kind for line in text.splitlines() if line]
"""The lines of blocks without a language, without their comments."""

LOADING = next(text for kind, text in BLOCKS if "load_lora_weights" in text)
"""How an adapter is loaded, with MODEL and TRIAL to be filled in."""


def write_examples(folder: Path) -> None:
    """Writes the examples that begin with the name of a file, such as `# my_sweep.yaml`, under that name."""
    for _, text in BLOCKS:
        named = re.match(r"# (\S+\.\w+)\n", text)
        if named:
            (folder / named[1]).write_text(text, encoding="utf-8")
