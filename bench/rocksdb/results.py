"""The raw results: a file of JSON lines, and their medians.

Kinds of lines: "run" (the first: options and machine), "turn" (one side's turn with one group of
workloads, in one round of one configuration, complete, with the figures of all its benchmarks),
"failure" (a turn that did not finish). A line is written when its turn is complete, so an interrupted run leaves only
whole turns, and resuming it repeats the others.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from workloads import DEVICE_BOUND

Record = dict  # one parsed line


class ResultsError(Exception):
    pass


def load(path: Path) -> list[Record]:
    """All whole lines; a last line that was cut off is left out."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there are no results yet") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number != len(lines):
                raise ResultsError(f"{path}:{number}: not JSON: {error}") from error
    if not records or records[0].get("kind") != "run":
        raise ResultsError(f"{path}: the first line does not describe a run")
    return records


def rewrite(path: Path, records: list[Record]) -> None:
    """Whole, or as it was: hours of measuring are in it."""
    new = path.with_suffix(".new")
    with open(new, "w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(record) + "\n" for record in records)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(path)


def append(path: Path, record: Record) -> None:
    with open(path, "a", encoding="utf-8") as opened:
        opened.write(json.dumps(record) + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def turn_key(record: Record) -> tuple[str, int, str, str]:
    return record["configuration"], record["round"], record["group"], record["side"]


@dataclass(frozen=True)
class Spread:
    """The median of all rounds, the least and the most."""

    median: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the range as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


FEW = 30  # figures beyond the first of each mean: with fewer, a slope says nothing


def pace_power(records: list[Record]) -> float:
    """How closely work follows pace.py's loop: with 1 it takes twice as long where the loop does, with 0.5 the root of 2 times.

    It is what fits the run best: the slope of throughput over the loop's time, both as logarithms, in what differs between
    rounds alone (least squares; each workload of each side and configuration has a mean of its own). 1 where there
    are too few rounds to tell."""
    rounds: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        if record["kind"] != "turn":
            continue
        for figures in record["figures"]:
            label, took = figures["label"], figures.get("loop_us")
            if label and label not in DEVICE_BOUND and took and ops(figures) > 0:
                key = record["configuration"], record["side"], label
                rounds[key].append((math.log(took), math.log(ops(figures))))
    loop_squares = products = 0.0
    degrees = 0
    for points in rounds.values():
        mean_loop = statistics.mean(loop for loop, _ in points)
        mean_rate = statistics.mean(rate for _, rate in points)
        loop_squares += sum((loop - mean_loop) ** 2 for loop, _ in points)
        products += sum((loop - mean_loop) * (rate - mean_rate) for loop, rate in points)
        degrees += len(points) - 1
    if degrees < FEW or loop_squares == 0:
        return 1.0
    return min(1.0, max(0.0, -products / loop_squares))


def usual_loop_us(records: list[Record]) -> float | None:
    """The median over everything measured in a run of what pace.py's loop took."""
    took = [
        figures["loop_us"]
        for record in records
        if record["kind"] == "turn"
        for figures in record["figures"]
        if figures.get("loop_us")
    ]
    return statistics.median(took) if took else None


class Table:
    """The figures of one configuration: side → label → one dictionary per round."""

    def __init__(self, records: list[Record], configuration: str) -> None:
        self.figures: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        self.raw_us: list[float] = []
        # Taken right before fillsync-1: what its time is compared with.
        self.sync_raw_us: list[float] = []
        self.discards = 0
        self.rounds: set[int] = set()
        usual, power = usual_loop_us(records), pace_power(records)
        for record in records:
            if record["kind"] != "turn" or record["configuration"] != configuration:
                continue
            self.rounds.add(record["round"])
            self.discards += record.get("discards", 0)
            if record.get("raw_us"):
                self.raw_us.append(record["raw_us"])
                if any(figures["label"] == "fillsync-1" for figures in record["figures"]):
                    self.sync_raw_us.append(record["raw_us"])
            for figures in record["figures"]:
                if figures["label"]:
                    pace = 1.0
                    if usual and figures.get("loop_us"):
                        pace = (figures["loop_us"] / usual) ** power
                    figures = figures | {"round": record["round"], "pace": pace}
                    self.figures[record["side"]][figures["label"]].append(figures)

    def value(self, side: str, label: str, of: Callable[[Record], float | None]) -> Spread | None:
        rounds = self.figures[side][label] if side in self.figures else []
        return spread([v for figures in rounds if (v := of(figures)) is not None])

    def median(self, side: str, label: str, of: Callable[[Record], float | None]) -> float | None:
        found = self.value(side, label, of)
        return found.median if found else None

    def ratio(
        self, label: str, of: Callable[[Record], float | None], over: str, side: str = "basalt"
    ) -> float | None:
        """Of the medians of two sides."""
        ours, theirs = self.median(side, label, of), self.median(over, label, of)
        return ours / theirs if ours is not None and theirs else None

    def round_ratios(
        self, label: str, of: Callable[[Record], float | None], over: str, side: str = "basalt"
    ) -> Spread | None:
        """Of the two sides' figures in the same round, which were measured close to each other."""
        theirs = {f["round"]: of(f) for f in self.figures[over][label]}
        return spread(
            [
                ours / base
                for f in self.figures[side][label]
                if (base := theirs.get(f["round"])) and (ours := of(f)) is not None
            ]
        )


def ops(figures: Record) -> float:
    """As measured."""
    return figures["ops_per_second"]


def paced_ops(figures: Record) -> float:
    """What it would be with the cores at their usual speed; where the device sets it, as measured."""
    return ops(figures) * (1.0 if figures["label"] in DEVICE_BOUND else pace(figures))


def pace(figures: Record) -> float:
    """How much slower the cores were than usual, above 1: pace.py's loop over its median, to pace_power()."""
    return figures.get("pace", 1.0)


def stolen_percent(figures: Record) -> float | None:
    share = figures.get("stolen")
    return None if share is None else share * 100


def machine_us(figures: Record) -> float | None:
    return figures["machine_cpu"] * 1e6 / figures["operations"] if figures["operations"] else None


def paced_machine_us(figures: Record) -> float | None:
    took = machine_us(figures)
    return took / pace(figures) if took is not None else None


def group_us(figures: Record) -> float | None:
    return figures["group_cpu"] * 1e6 / figures["operations"] if figures["operations"] else None


def settled_machine_us(figures: Record) -> float | None:
    """With the full compaction that settled what the benchmark left behind."""
    settle = figures.get("settle")
    if not settle or not figures["operations"]:
        return None
    return (figures["machine_cpu"] + settle["machine_cpu"]) * 1e6 / figures["operations"]


def written_per_op(figures: Record) -> float | None:
    return figures["written_bytes"] / figures["operations"] if figures["operations"] else None


def settled_written_per_op(figures: Record) -> float | None:
    settle = figures.get("settle")
    if not settle or not figures["operations"]:
        return None
    return (figures["written_bytes"] + settle["written_bytes"]) / figures["operations"]


def read_per_op(figures: Record) -> float | None:
    return figures["read_bytes"] / figures["operations"] if figures["operations"] else None


def flushes_per_op(figures: Record) -> float | None:
    return figures.get("flushes", 0) / figures["operations"] if figures["operations"] else None


def depth(figures: Record) -> float:
    return figures["queue_depth"]


def beside(figures: Record) -> float | None:
    """Writes per second of a thread whose operations do not count."""
    count = figures.get("writes_beside")
    return count / figures["seconds"] if count is not None and figures["seconds"] else None


def percentile(index: int) -> Callable[[Record], float | None]:
    """0, 1, 2: p50, p99, p99.9 in µs, of reads where a benchmark does both."""

    def of(figures: Record) -> float | None:
        latency = figures["latency"]
        if not latency:
            return None
        kind = "read" if "read" in latency else next(iter(latency))
        return latency[kind][index]

    return of


P50, P99, P999 = percentile(0), percentile(1), percentile(2)
