"""Does this checkout give the numbers and the outputs of another one, on this machine?

    git worktree add build/parent REVISION
    python -m tests.performance.same_numbers build/parent            # every method on the tiny model, and the verbs
    python -m tests.performance.same_numbers build/parent --sweeps gate aesthetic    # and sweeps, with one seed

Both run the same commands, each with its own sources. Curves, evaluations and frames are compared bitwise but for
seconds and memory; what verbs print as JSON is compared value by value but for paths, times, versions of the sources
and the identities that follow from them. Exits with 1 where anything differs, and names it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[2]
MACHINES_OWN = re.compile(r"seconds|memory|bytes|time|updated|started|finished|written|eta|commit|dirty|command")
IDENTITY = re.compile(r"-s(\d+)-[0-9a-f]{8}")
WIDTH = 240
"""Characters of a printed difference."""

EVERY_METHOD = """
import sys
from pathlib import Path
from methods import registry
from models.tiny import write_tiny_pipeline
from ruamel.yaml import YAML

try:
    from bench.conformance.expectations import expectations_of

    small = lambda cls: dict(expectations_of(cls).small)
except ImportError:  # a tree in which the settings stood with the method
    small = lambda cls: dict(cls.small)

folder = Path(sys.argv[1])
write_tiny_pipeline(folder / "model")
methods = [{"name": name, "settings": small(registry.load(name))} for name in registry.names()]
sweep = {
    "schema": 1, "name": "every", "model": str(folder / "model"), "reward": "colourfulness",
    "prompts": {"train": ["a cat", "a dog", "a fox", "an owl"], "heldout": ["two dogs"]}, "sampler": {"steps": 3},
    "methods": methods, "seeds": [0], "budget": {"reward_queries": 32}, "target": 0.1,
    "evaluate": {"every": 8, "images": 2, "sampler": {"steps": 2, "eta": 0.0}},
}
with (folder / "every.yaml").open("w") as file:
    YAML().dump(sweep, file)
"""


def run(tree: Path, work: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command with the sources of `tree`, in `work`."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *command], cwd=work, env=environment, capture_output=True, text=True, check=False
    )


def bench(tree: Path, work: Path, *arguments: str) -> str:
    """What a verb prints, after its exit code."""
    done = run(tree, work, "-c", "from bench.cli import main; main()", *arguments)
    return f"{done.returncode}\n{done.stdout}"


def outputs(tree: Path, work: Path, sweeps: list[str]) -> dict[str, str]:
    """Command -> what it printed; runs lie in `work` afterwards."""
    work.mkdir(parents=True)
    (work / "sweeps").symlink_to(tree / "sweeps")
    run(tree, work, "-c", EVERY_METHOD, str(work))
    commands = [
        ["run", "every.yaml", "--executor", "inline", "--out", "every", "--json"],
        ["run", "every.yaml", "--executor", "inline", "--out", "every", "--json"],
        ["run", "every.yaml", "--executor", "inline", "--out", "other", "--set", "seeds=[1]", "--json"],
        *(
            ["run", f"sweeps/{name}.yaml", "--executor", "inline", "--out", name, "--set", "seeds=[0]", "--json"]
            for name in sweeps
        ),
        ["plan", "every.yaml", "--json"],
        *(["plan", f"sweeps/{path.name}", "--json"] for path in sorted((tree / "sweeps").glob("*.yaml"))),
        ["plan", "sweeps/aesthetic.yaml", "--scale", "nothing", "--json"],
        ["status", "every", "--json"],
        ["report", "every", "--json"],
        ["report", "every", "other", "--out", "together", "--json"],
        ["compare", "every", "other", "--json"],
        ["baseline", "save", "every", "every.json"],
        ["baseline", "show", "every.json"],
        ["check", "every", "--baseline", "every.json", "--json"],
        ["check", "other", "--baseline", "every.json", "--json"],
        ["history", "every", "other", "--json"],
        ["merge", "every", "other", "--out", "merged", "--json"],
        ["test", "alignprop", "--json"],
        ["doctor", "--json"],
        *(["list", kind, "--json"] for kind in ("methods", "rewards", "models", "prompts", "sweeps")),
        ["list", "nothing", "--json"],
    ]
    found = {}
    for arguments in commands:
        name = " ".join(arguments)
        found[name if name not in found else f"{name} (again)"] = bench(tree, work, *arguments)
        print(f"  bench {name}", file=sys.stderr, flush=True)
    return found


def plain(value: Any, tree: Path, work: Path) -> Any:
    """A JSON value without what two checkouts or two moments never have alike."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not MACHINES_OWN.search(key) and key != "identity"}
        return {plain(key, tree, work): plain(item, tree, work) for key, item in kept.items()}
    if isinstance(value, list):
        return [plain(item, tree, work) for item in value]
    if isinstance(value, str):
        text = value.replace(str(work), "WORK").replace(str(tree), "TREE")
        return IDENTITY.sub(r"-s\1", text)
    return value


def parsed(text: str, tree: Path, work: Path) -> Any:
    """What a verb printed: its JSON, or its lines."""
    code, _, rest = text.partition("\n")
    try:
        return [code, plain(json.loads(rest), tree, work)]
    except ValueError:
        return [code, plain(rest.splitlines(), tree, work)]


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ, in words; NaN is like NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if key not in one or key not in other:
                yield f"{where}.{key}: only in the {'other' if key in other else 'first'}"
            else:
                yield from differences(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{where}[{place}]")
    elif one != other and not (one != one and other != other):
        yield f"{where}: {str(one)[:150]!r} and {str(other)[:150]!r}"


def curves(run_folder: Path) -> dict[str, pd.DataFrame]:
    """Trial and file -> its numbers, without seconds and memory."""
    found = {}
    for folder in sorted((run_folder / "trials").glob("*/")):
        trial = IDENTITY.sub(r"-s\1", folder.name)
        points = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        found[f"{trial}/curve"] = pd.json_normalize(points)
        found[f"{trial}/evaluation"] = pd.read_parquet(folder / "evaluation.parquet")
    found["results"] = pd.read_parquet(run_folder / "results.parquet")
    for name, frame in found.items():
        kept = [column for column in frame if not re.search(r"seconds|memory|bytes", str(column))]
        frame = frame[sorted(kept)]
        found[name] = (
            frame.assign(trial=frame["trial"].str.replace(IDENTITY, r"-s\1", regex=True)) if "trial" in frame else frame
        )
    return found


def compared(trees: list[Path], works: list[Path], sweeps: list[str]) -> list[str]:
    """All that differs."""
    wrong = []
    printed = [outputs(tree, work, sweeps) for tree, work in zip(trees, works, strict=True)]
    for command in dict.fromkeys([*printed[0], *printed[1]]):
        both = [
            parsed(found.get(command, "missing\n"), tree, work)
            for found, tree, work in zip(printed, trees, works, strict=True)
        ]
        wrong += [f"bench {command}{where}" for where in differences(*both)]
    values = 0
    for name in ("every", "other", "merged", *sweeps):
        one, other = (curves(work / name) for work in works)
        for key in dict.fromkeys([*one, *other]):
            if key not in one or key not in other:
                wrong.append(f"{name}/{key}: only in one")
                continue
            values += one[key].size
            if not one[key].equals(other[key]):
                wrong.append(f"{name}/{key}: numbers differ")
    print(f"{len(printed[0])} commands, {values:,} values of curves, evaluations and frames compared")
    return sorted(wrong, key=lambda line: line.startswith("bench "))  # numbers first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--sweeps", nargs="*", default=[], help="shipped sweeps to run as well, with their first seed")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "same-numbers", help="where both run")
    asked = parser.parse_args()
    shutil.rmtree(asked.work, ignore_errors=True)
    trees = [asked.other.resolve(), ROOT]
    wrong = compared(trees, [asked.work.resolve() / "other", asked.work.resolve() / "this"], asked.sweeps)
    for line in wrong:
        print(line[:WIDTH])
    print(f"{len(wrong)} differences" if wrong else "no difference")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
