"""What the programs' own output says about a run: how much was done, and what was found."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Found:
    counts: dict[str, int] = field(default_factory=dict)
    problem: str = ""  # empty: nothing


def _last(pattern: str, text: str) -> int:
    numbers = re.findall(pattern, text, re.MULTILINE)
    return int(numbers[-1]) if numbers else 0


def _sum(pattern: str, text: str) -> int:
    return sum(int(number) for number in re.findall(pattern, text, re.MULTILINE))


def _first_line(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else ""


def fuzz(text: str) -> Found:
    """libFuzzer: statistics at the end, and a line now and then before."""
    inputs = _last(r"^stat::number_of_executed_units: *(\d+)", text) or _last(r"^#(\d+)\t", text)
    counts = {
        "inputs": inputs,
        "edges": _last(r"^#\d+\t.* cov: (\d+)", text),
        "corpus": _last(r"^#\d+\t.* corp: (\d+)", text),
    }
    written = _first_line(r"Test unit written to (\S+)", text)
    problem = _first_line(r"^(?:SUMMARY|==\d+== ERROR): (.*)", text)
    if written:
        problem = f"{problem or 'a finding'} ({written})"
    return Found(counts, problem)


def crash(text: str) -> Found:
    """GoogleTest, with a line for each scenario that was looked at to its end."""
    counts = {
        "distinct": _sum(r"^crash states: (\d+) distinct", text),
        "looked_at": _sum(r"^crash states: .* (\d+) looked at", text),
        "in_recovery": _sum(r"^crash states: .*\((\d+) in recovery", text),
        "scenarios": len(re.findall(r"^crash states: ", text, re.MULTILINE)),
    }
    failed = sorted(set(re.findall(r"^\[  FAILED  \] ([^ ,]+/[^ ,]+)", text, re.MULTILINE)))
    replay = _first_line(r"(BASALT_CRASH_COMMAND=\d+ seed \d+)", text)
    return Found(counts, ", ".join([*failed, replay] if replay else failed))


def stress(text: str) -> Found:
    """rocksdb_stress --verbose 1: a line for each child, a summary at the end."""
    counts = {
        "kills": len(re.findall(r"^child \d+ .*: killed after", text, re.MULTILINE)),
        "acknowledged": _last(r"; (\d+) acknowledged writes of keys", text)
        or _sum(r"^child \d+ .* (\d+) writes of keys$", text),
        "verified": _last(r", (\d+) keys verified", text),
    }
    return Found(counts, _first_line(r"^rocksdb_stress: FAILED: (.*)", text))


def stress_power(text: str) -> Found:
    """rocksdb_stress --power 1 --verbose 1: totals after each machine."""
    counts = {
        "machines": _last(r"^rocksdb_stress --power: (\d+) machines", text),
        "cuts": _last(r"^rocksdb_stress --power: .* (\d+) power cuts", text),
        "cuts_in_recovery": _last(r"^rocksdb_stress --power: .* (\d+) in recovery", text),
        "changes": _last(r"^rocksdb_stress --power: .* (\d+) changes", text),
        "verified": _last(r"^rocksdb_stress --power: .* (\d+) keys verified", text),
    }
    return Found(counts, _first_line(r"^rocksdb_stress: FAILED: (.*)", text))
