"""The machines that trials ran on: each kind has a letter, and seconds of different kinds never share a column.

Seconds and memory depend on the machine, the precision, the threads and the version of torch; queries, NFE and FLOPs do
not.
"""

import string
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

SPEED_KEYS = ("hardware", "precision", "threads")


def records(trials: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Trial -> its provenance; a trial without one is left out."""
    pairs = zip(trials["trial"].astype(str), trials["provenance"], strict=True)
    return {trial: record for trial, record in pairs if isinstance(record, Mapping)}


def speed_classes(trials: pd.DataFrame) -> dict[str, str]:
    """Trial -> the letter of its kind of machine; empty where all trials ran on one kind."""
    keys = {
        trial: str([_flat(record.get(key)) for key in SPEED_KEYS] + [(record.get("versions") or {}).get("torch")])
        for trial, record in records(trials).items()
    }
    letters = _letters(keys.values())
    return {trial: letters[key] for trial, key in keys.items()} if len(letters) > 1 else {}


def class_words(trials: pd.DataFrame) -> dict[str, str]:
    """Letter -> the kind of machine in words."""
    found, known = records(trials), speed_classes(trials)
    return {letter: _machine(found[trial]) for trial, letter in reversed(known.items())}


def origins(trials: pd.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """(trial -> number of its provenance, number -> that provenance in words), leaving out commands."""
    words = {trial: origin_words(record) for trial, record in records(trials).items()}
    numbers = {text: str(index + 1) for index, text in enumerate(dict.fromkeys(words.values()))}
    return {trial: numbers[text] for trial, text in words.items()}, {number: text for text, number in numbers.items()}


def origin_words(record: Mapping[str, Any]) -> str:
    """A provenance as one line: machine, precision, threads, commit, versions, weights."""
    commit = str(record.get("commit") or "")[:10]
    parts = [_machine(record)]
    if commit:
        parts.append(f"commit {commit}{' with uncommitted changes' if record.get('dirty') else ''}")
    if record.get("versions"):
        parts.append(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    if record.get("weights"):
        parts.append("weights " + ", ".join(f"{name} {str(sha)[:12]}" for name, sha in record["weights"].items()))
    return "; ".join(part for part in parts if part)


def differences(trials: pd.DataFrame, keys: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The parts of the provenance that differ between trials: "versions torch" -> value -> the variants that have it.

    Args:
        keys: of the provenance, those that are compared.
    """
    found: dict[str, dict[str, list[str]]] = {}
    known = records(trials)
    variants = dict(zip(trials["trial"].astype(str), trials["variant"].astype(str), strict=True))
    for trial, record in known.items():
        for key in keys:
            for name, value in _leaves(key, record.get(key)):
                holders = found.setdefault(name, {}).setdefault(value, [])
                if variants[trial] not in holders:
                    holders.append(variants[trial])
    return {name: values for name, values in found.items() if len(values) > 1}


def _leaves(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [(f"{key} {name}", str(item)) for name, item in value.items() if item is not None]
    return [] if value is None else [(key, str(value))]


def _machine(record: Mapping[str, Any]) -> str:
    hardware = record.get("hardware") or {}
    parts = [str(hardware[key]) for key in ("gpu", "cpu") if hardware.get(key)]
    if hardware.get("cores"):
        parts.append(f"{hardware['cores']} cores")
    if record.get("precision"):
        parts.append(str(record["precision"]))
    if record.get("threads"):
        parts.append(f"{record['threads']} thread{'s' if record['threads'] != 1 else ''}")
    torch = (record.get("versions") or {}).get("torch")
    return ", ".join([*parts, f"torch {torch}"] if torch and parts else parts)


def _letters(keys: Iterable[str]) -> dict[str, str]:
    return {key: string.ascii_uppercase[index % 26] for index, key in enumerate(dict.fromkeys(keys))}


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        # Two machines of one kind seldom report the same number of bytes.
        known = {key: item for key, item in value.items() if key != "memory_bytes"}
        return ", ".join(f"{key} {_flat(item)}" for key, item in sorted(known.items()))
    return str(value)
