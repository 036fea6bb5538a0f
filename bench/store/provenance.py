"""The provenance of a result: versions, commit, hardware, precision, threads, weights, command."""

import os
import platform
import shlex
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bench.build.trial_spec import Trial

PACKAGES = (
    "alignprop-bench",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "trl",
    "deepspeed",
    "ray",
    "numpy",
    "pandas",
)


def provenance(trial: Trial, command: str) -> dict[str, Any]:
    """The provenance of a trial that this process runs (see `bench.store.records.Provenance`).

    Args:
        trial: the trial.
        command: the command line that started the run.
    """
    import torch

    commit, dirty = source_commit()
    return {
        "versions": versions(),
        "commit": commit,
        "dirty": dirty,
        "hardware": hardware(),
        "precision": trial.precision,
        "threads": torch.get_num_threads(),
        "weights": trial.weights,
        "command": command,
    }


def versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that the numbers depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


@lru_cache(maxsize=1)
def source_commit() -> tuple[str | None, bool | None]:
    """The commit of this code's checkout, and whether the checkout has uncommitted changes; both None outside git."""
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, bool(changes)


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """This machine's processor, usable cores, memory in bytes and GPU (None without one)."""
    import torch

    return {
        "cpu": _processor(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_command() -> str:
    """This process's command line, quoted for a shell."""
    return " ".join([Path(sys.argv[0]).name, *map(shlex.quote, sys.argv[1:])])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
