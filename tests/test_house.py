"""The house keeps its floors: a folder imports from floors below it, never from its own floor's others or above."""

import ast
import re
import subprocess
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

from bench.store.status import Status
from methods import registry
from methods.presentation import Family, Presentation
from models import ledger
from reports import names
from reports.meta import MethodFacts
from reports.regression.baseline import COST_TOLERANCES

ROOT = Path(__file__).parents[1]
FLOORS = {"rewards": 1, "models": 1, "reports": 1, "methods": 2, "bench": 3}
BENCH = ("sweep", "build", "plan", "store", "run", "results", "conformance", "commands")
"""The storeys of `bench/`, the lowest first; loose modules lie below them all, but for the command line itself."""

MOST_LINES = 600

LOADS_BY_NAME = {
    "bench/build/plugins.py",  # methods and rewards, embedded or of others
    "bench/run/executors/__init__.py",  # inline, or Ray
    "bench/cli.py",  # verbs
    "methods/peers/trl_method.py",  # TRL, where a peer is built
}
"""Registries: they import what a name stands for when it is asked for. The verbs in `bench/commands/` do so as well."""

WHEN_USED = {
    "accelerate", "deepspeed", "diffusers", "fsspec", "huggingface_hub", "mlflow", "optuna", "peft", "ray", "rich",
    "safetensors", "tensorboardX", "tokenizers", "torch", "trackio", "transformers", "trl", "wandb",
}  # fmt: skip
"""Libraries that take long to import, or need not be installed: a module that seldom needs one imports it then."""


def sources():
    return [path for folder in FLOORS for path in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sources()}


def imports_of(path: Path) -> list[str]:
    """Modules of ours and names in others that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # Where a module is imported from its package, the package's `__init__` runs too.
            found += [name for name in names if name in MODULES or node.module not in MODULES]
            found += [str(node.module)] if node.module in MODULES else []
    return found


def late_imports(path: Path) -> list[str]:
    """Packages that a file imports inside a function, or only for the type checker."""
    late = (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)
    found = []
    for block in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(block, late) and not (isinstance(block, ast.If) and "__main__" in ast.unparse(block.test)):
            for node in ast.walk(block):
                if isinstance(node, ast.Import):
                    found += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    found.append(str(node.module))
    return [name.partition(".")[0] for name in found]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_and_stand_at_the_top_and_files_stay_small(path):
    name = str(path.relative_to(ROOT))
    home = name.partition("/")[0]
    for other in {name.split(".")[0] for name in imports_of(path)}:
        if other in FLOORS and other != home:
            assert FLOORS[other] < FLOORS[home], f"{home} (floor {FLOORS[home]}) imports {other}"
    if name not in LOADS_BY_NAME and not name.startswith("bench/commands/"):
        assert set(late_imports(path)) <= WHEN_USED
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def storey_of(module: str) -> int:
    """Of a module of `bench`: 0 for what stands beside the storeys."""
    name = module.split(".")[1] if "." in module else ""
    return BENCH.index(name) + 1 if name in BENCH else len(BENCH) + 1 if name == "cli" else 0


def test_bench_is_built_from_the_ground():
    for module, path in MODULES.items():
        if module.startswith("bench"):
            above = [
                name for name in imports_of(path) if name.startswith("bench.") and storey_of(name) > storey_of(module)
            ]
            assert not above or module == "bench.cli", f"{module} imports {above}"
    folders = {path.name for path in (ROOT / "bench").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(BENCH)


def test_no_module_reaches_itself_by_its_imports():
    reached = {module: {name for name in imports_of(path) if name in MODULES} for module, path in MODULES.items()}
    with_itself = TopologicalSorter({module: names - {module} for module, names in reached.items()})
    with_itself.prepare()  # raises CycleError, which names the circle


STOREYS = (
    ("names",),
    ("choices", "formatting", "files", "frame"),
    ("meta", "machines"),
    ("statistics",),
    ("figures", "tables"),
    ("opening",),
    ("headline", "notices"),
    ("document",),
    ("writers",),
    ("build", "regression"),
)
"""Of `reports/`, the lowest first, as its docstring lists them."""


def test_reports_are_built_from_the_ground():
    storey = {name: place for place, names in enumerate(STOREYS) for name in names}
    seen = set()
    for path in sorted((ROOT / "reports").rglob("*.py")):
        home = path.relative_to(ROOT / "reports").parts[0].removesuffix(".py")
        seen.add(home)
        for name in imports_of(path):
            if name.startswith("reports."):
                other = name.split(".")[1]
                assert other == home or storey[other] < storey[home], f"{path.name} imports {name}"
    assert seen == {*storey, "__init__"}


def test_no_path_of_a_machine_is_in_the_tree():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    here = {f"{ROOT.parent}/", f"{Path.home()}/"} - {"//"}
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".json", ".txt") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not any(machine in text for machine in here), name


def test_reports_know_no_method_by_name():
    """A method that is added edits no file of another floor."""
    for path in sorted((ROOT / "reports").rglob("*")):
        if path.suffix not in (".py", ".jinja", ".js", ".css") or "vendor" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        for name in registry.names():
            # "base" and "draft" are English words too, so they are looked for between quotation marks alone.
            quoted = rf"""["'`]{name}["'`]"""
            pattern = quoted if name in ("base", "draft") else rf"(?<![\w-]){re.escape(name)}(?![\w-])"
            assert not re.search(pattern, text, re.IGNORECASE), f"{path.relative_to(ROOT)} names the method {name}"


def test_reports_have_the_meters_axes_and_the_harness_statuses():
    assert set(names.CURVE_AXES) == set(ledger.AXES)
    for axis in ledger.BUDGET_AXES:
        columns = ledger.columns_of(axis)
        assert set(columns) <= set(ledger.AXES), axis
        assert names.budget_column(axis) == (axis if len(columns) == 1 else names.BUDGET_SECONDS), axis
    assert set(names.STATUSES) == set(Status)
    assert set(names.STOPPED) == {status for status in Status if status.stopped}
    assert set(names.BROKEN) == {status for status in Status if status.broken}
    known = {*ledger.AXES, names.BUDGET_SECONDS}
    for name, axes in vars(names).items():
        if name.endswith("_AXES") or name in ("SECONDS", "MACHINES_OWN", "AXIS_WORDS"):
            assert set(axes) <= known, name
    assert set(COST_TOLERANCES) == set(names.GATE_AXES)


def test_reports_take_a_methods_presentation_as_it_is_written():
    mine, theirs = ({field.name: field.default for field in fields(of)} for of in (Presentation, MethodFacts))
    assert mine == theirs
    assert names.UNTRAINED in get_args(Family)
