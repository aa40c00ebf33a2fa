"""One side's turn: a fresh file system, then one group of workloads of one configuration.

Each db_bench process starts after a sync and with the kernel's caches dropped, in a new control
group with the memory limit. A group that fails is recorded with db_bench's last words.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from cgroup import Cgroup
from device import BlockDevice
from measure import BenchError, Figures, run_db_bench
from pace import Pace
from results import Record
from sides import Side
from workloads import Configuration, Group, Scale, Step, common_flags, flag_words

RAW_WRITES = 2000
SUMMED = (
    "operations",
    "seconds",
    "elapsed",
    "group_cpu",
    "machine_cpu",
    "read_bytes",
    "written_bytes",
    "reads",
    "writes",
    "flushes",
    "discards",
)
SETTLED = ("group_cpu", "machine_cpu", "written_bytes", "read_bytes", "seconds")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Turn:
    side: Side
    configuration: Configuration
    round: int
    scale: Scale
    device: BlockDevice
    group: Group
    logs: Path
    pace: Pace | None = None

    def run(self) -> tuple[Record, list[Record]]:
        """The record of the turn, and what failed."""
        figures: list[Record] = []
        failures: list[Record] = []
        peak = 0
        discards_before = self.device.stat().discards
        raw_us = self.prepare()
        try:
            figures, peak = self._run_group()
        except BenchError as error:
            say(f"  {self.side.name}: {self.group.name} failed: {error}")
            failures.append(self._record("failure", error=str(error)))
        problem = self.side.finish()
        if problem:
            say(f"  {self.side.name}: the check at the end failed: {problem}")
            failures.append(self._record("failure", error=f"the check at the end: {problem}"))
        discards = self.device.stat().discards - discards_before
        record = self._record(
            "turn", raw_us=raw_us, peak_bytes=peak, discards=discards, figures=figures
        )
        return record, failures

    def _record(self, kind: str, **fields: object) -> Record:
        return {
            "kind": kind,
            "configuration": self.configuration.name,
            "round": self.round,
            "group": self.group.name,
            "side": self.side.name,
            **fields,
        }

    def prepare(self) -> float | None:
        """Time of one raw write and flush, taken on the blocks the side is about to get."""
        if not self.side.on_device:
            return None
        raw_us = self.device.write_and_flush_us(RAW_WRITES)
        self.side.prepare(self.device)
        return raw_us

    def _run_group(self) -> tuple[list[Record], int]:
        records: list[Record] = []
        peak = 0
        for number, step in enumerate(self.steps()):
            cgroup = self.open_cgroup(step)
            try:
                measured = run_db_bench(
                    self.step_command(step, number),
                    step.benchmarks,
                    cgroup,
                    self.device if self.side.on_device else None,
                    self.logs
                    / (
                        f"{self.side.name}.{self.configuration.name}.{self.group.name}."
                        f"{self.round}.{number}.log"
                    ),
                )
                peak = max(peak, cgroup.peak_bytes())
            finally:
                cgroup.close()
            self.add_pace(measured)
            records += with_settling(measured)
        return merged(records), peak

    def add_pace(self, measured: list[Figures]) -> None:
        if self.pace is None:
            return
        for figures in measured:
            figures.loop_us = self.pace.loop_us(figures.begin, figures.begin + figures.elapsed)
        self.pace.forget()

    def steps(self) -> tuple[Step, ...]:
        """RocksDB's memory file system lives in one process: what cannot be joined is left out."""
        if self.side.on_device:
            return self.group.steps
        joined = self.group.joined()
        return joined.steps if joined.labels() else ()

    def step_command(self, step: Step, number: int) -> list[str]:
        flags = common_flags(self.configuration) | dict(step.flags)
        if number > 0:
            flags["use_existing_db"] = 1
        return self.side.command(flag_words(flags), self.group.direct)

    def open_cgroup(self, step: Step) -> Cgroup:
        drop_caches()
        reads_directly = self.group.direct and step.labels()  # loading the data needs more
        limit = self.scale.direct_memory_bytes if reads_directly else self.scale.memory_bytes
        return Cgroup(f"basalt-bench-{os.getpid()}", limit if self.side.limited else None)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def with_settling(measured: list[Figures]) -> list[Record]:
    """The labelled figures, each with the cost of the compaction that settled its leavings."""
    records = []
    for figures, after in zip(measured, [*measured[1:], None]):
        if not figures.label:
            continue
        record = dataclasses.asdict(figures)
        if after is not None and after.name == "compact" and not after.label:
            record["settle"] = {name: getattr(after, name) for name in SETTLED}
        records.append(record)
    return records


def merged(records: list[Record]) -> list[Record]:
    """One record for each label: what a turn measured several times, as if in one piece."""
    by_label: dict[str, list[Record]] = {}
    for record in records:
        by_label.setdefault(record["label"], []).append(record)
    return [same[0] if len(same) == 1 else _merge(same) for same in by_label.values()]


def _merge(same: list[Record]) -> Record:
    """Counts and times are added up, means weighted with the time; a percentile is the median of the parts'."""

    def total(name: str) -> float:
        return sum(record[name] for record in same)

    def mean(name: str) -> float | None:
        known = [r for r in same if r[name] is not None]
        time = sum(r["elapsed"] for r in known)
        return sum(r[name] * r["elapsed"] for r in known) / time if time else None

    record = same[0] | {name: total(name) for name in SUMMED}
    record["ops_per_second"] = total("operations") / total("seconds")
    record |= {name: mean(name) for name in ("loop_us", "stolen", "queue_depth")}
    if all(r["writes_beside"] is not None for r in same):
        record["writes_beside"] = total("writes_beside")
    record["latency"] = {
        kind: [statistics.median(part) for part in zip(*(r["latency"][kind] for r in same))]
        for kind in same[0]["latency"]
        if all(kind in r["latency"] for r in same)
    }
    if all("settle" in r for r in same):
        record["settle"] = {name: sum(r["settle"][name] for r in same) for name in SETTLED}
    else:
        record.pop("settle", None)
    return record
