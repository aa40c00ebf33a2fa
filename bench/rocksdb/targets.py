"""What Basalt is to reach, workload by workload, and whether the medians of a table reach it.

Throughput that the cores set and CPU time are those of cores at their usual speed (pace.py).

A target of throughput is a factor over ext4 and over xfs. Where `ceiling` is set, 95 % of what
RocksDB does on its own file system in memory is enough instead, if that is less; below 1.0 is never
enough.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from results import P999, Table, depth, ops, paced_machine_us, paced_ops
from workloads import LABELS

CEILING_SHARE = 0.95
RAW_FACTOR = 1.25  # time of a synced write over one raw write and flush
DEPTH = 16 * 0.9  # readers also compute between two reads: 90 % of 16 counts as 16


@dataclass(frozen=True)
class Target:
    factor: float
    ceiling: bool = False


USUAL = Target(1.15, ceiling=True)
TARGETS = {label: Target(1.0) for label in LABELS} | {
    "fillsync-1": Target(2.0),
    "fillsync-8": Target(2.0),
    "fillseq": USUAL,
    "fillrandom": USUAL,
    "overwrite": USUAL,
    "updaterandom": USUAL,
    "compact": USUAL,
    "readseq": USUAL,
    "readseq-cached": USUAL,
    "seekrandom": USUAL,
    "readwhilewriting": USUAL,
    "readwhilewriting-10M": USUAL,
    "readwhilewriting-50M": USUAL,
    "readrandom": Target(1.3, ceiling=True),
    "readrandom-direct-1": Target(1.1),
    "readrandom-direct-16": Target(1.1),
    "multireadrandom-direct": Target(2.0),
}
RIVALS = ("ext4", "xfs")


@dataclass(frozen=True)
class Check:
    """One comparison with its figures in words."""

    what: str
    met: bool
    text: str


def needed(table: Table, label: str, rival: str) -> float:
    """The factor over `rival`, after the ceiling had its say."""
    target = TARGETS[label]
    ceiling = table.ratio(label, paced_ops, rival, side="memory")
    if not target.ceiling or ceiling is None:
        return target.factor
    return max(1.0, min(target.factor, CEILING_SHARE * ceiling))


def check_throughput(table: Table, label: str) -> list[Check]:
    checks = []
    for rival in RIVALS:
        ratio = table.ratio(label, paced_ops, rival)
        if ratio is None:
            continue
        least = needed(table, label, rival)
        lowered = " (95 % of the ceiling)" if least < TARGETS[label].factor else ""
        checks.append(
            Check(f"{rival}", ratio >= least, f"{ratio:.2f}× {rival}, target {least:.2f}×{lowered}")
        )
    return checks


def check_raw(table: Table, label: str) -> list[Check]:
    found = raw_multiple(table, label)
    if found is None or label != "fillsync-1":
        return []
    return [
        Check(
            "raw",
            found <= RAW_FACTOR,
            f"{found:.2f}× a raw write and flush, target at most {RAW_FACTOR:.2f}×",
        )
    ]


def raw_multiple(table: Table, label: str, side: str = "basalt") -> float | None:
    """Time of one operation over the median of the raw writes and flushes beside it."""
    rate = table.median(side, label, ops)
    if rate is None or not table.sync_raw_us:
        return None
    return 1e6 / rate / statistics.median(table.sync_raw_us)


def check_cpu(table: Table, label: str) -> list[Check]:
    ratio = table.ratio(label, paced_machine_us, "ext4")
    if ratio is None:
        return []
    return [Check("CPU", ratio < 1, f"CPU per operation {ratio:.2f}× ext4's, target below 1")]


def check_depth(table: Table, label: str) -> list[Check]:
    found = table.median("basalt", label, depth)
    if found is None or label != "readrandom-direct-16":
        return []
    return [
        Check(
            "depth",
            found >= DEPTH,
            f"mean device queue depth {found:.1f}, target 16 ({DEPTH:.1f} counts)",
        )
    ]


def check_tail(table: Table, label: str) -> list[Check]:
    ratio = table.ratio(label, P999, "ext4")
    if ratio is None or not label.startswith("readwhilewriting"):
        return []
    return [Check("p99.9", ratio <= 1, f"p99.9 {ratio:.2f}× ext4's, target at most 1")]


def judge(table: Table, label: str) -> list[Check]:
    return [
        check
        for judge_one in (check_throughput, check_raw, check_depth, check_tail, check_cpu)
        for check in judge_one(table, label)
    ]
