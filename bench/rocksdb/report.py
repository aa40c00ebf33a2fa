"""The Markdown report and its charts, from the raw results alone."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import method
import targets
from chart import ratio_chart
from results import (
    P50,
    P99,
    P999,
    Record,
    Spread,
    Table,
    beside,
    depth,
    flushes_per_op,
    group_us,
    machine_us,
    ops,
    pace,
    pace_power,
    paced_machine_us,
    paced_ops,
    read_per_op,
    settled_machine_us,
    settled_written_per_op,
    spread,
    stolen_percent,
    written_per_op,
)
from sides import CHECKSUMS
from workloads import LABELS

Value = Callable[[Record], "float | None"]


def number(value: float | None) -> str:
    """Three digits, thousands apart; a dash for nothing."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def with_spread(value: Spread | None) -> str:
    if value is None:
        return "–"
    return number(value.median) + (f" ±{value.half_width:.0%}" if value.count > 1 else "")


def with_rounds(value: float | None, rounds: Spread | None) -> str:
    """A ratio of medians, and the least and the most of the rounds' own."""
    if rounds is None or rounds.count < 2:
        return factor(value)
    return f"{factor(value)} ({number(rounds.low)}–{number(rounds.high)})"


def factor(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}×" if value >= 0.1 else f"{value:.1g}×"


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return ["(nothing was measured)", ""]
    rule = "|---|" + "---:|" * (len(head) - 1)
    return [
        "| " + " | ".join(head) + " |",
        rule,
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


class Report:
    def __init__(self, records: list[Record], folder: Path) -> None:
        self.run = records[0]
        self.records = records
        self.folder = folder
        self.sides: list[str] = self.run["options"]["sides"]
        # Those named when the run began; turns measured so far decide what has a table.
        measured = {r["configuration"] for r in records if r["kind"] == "turn"}
        self.configurations = [c for c in self.run["options"]["configurations"] if c in measured]
        self.tables = {name: Table(records, name) for name in self.configurations}

    def write(self) -> Path:
        lines = ["# RocksDB's db_bench on Basalt, ext4 and xfs", ""]
        lines += self._summary() + self._machine()
        for name in self.configurations:
            lines += self._configuration(name)
        lines += self._failures() + self._profiles() + method.lines(self.run, pace_power(self.records))
        path = self.folder / "report.md"
        path.write_text("\n".join(lines))
        return path

    def labels(self, table: Table) -> list[str]:
        return [
            label for label in LABELS if any(label in table.figures[side] for side in self.sides)
        ]

    def _summary(self) -> list[str]:
        met, missed = 0, []
        for record in self.records:
            if record["kind"] == "failure" and record["side"] == "basalt":
                missed.append(
                    f"- {record['configuration']}, {record['group']}: failed in round "
                    f"{record['round']}, see below"
                )
        for name, table in self.tables.items():
            for label in self.labels(table):
                for check in targets.judge(table, label):
                    met += check.met
                    if not check.met:
                        missed.append(f"- {name}, {label}: {check.text}")
        if not met and not missed:
            return ["## Summary", "", "There is nothing to compare yet.", ""]
        lines = ["## Summary", "", f"{met} of {met + len(missed)} targets are met."]
        if missed:
            lines += ["Missed:", "", *missed]
        return [*lines, ""]

    def _machine(self) -> list[str]:
        rows = [[name, value] for name, value in self.run["machine"].items()]
        rows.append(["device", self.run["device"]])
        for name, digest in self.run.get("programs", {}).items():
            rows.append([name, f"sha256 {digest}…"])
        rows.append(["load before the start", f"{self.run['load']:.2f} (should be near 0)"])
        return ["## Machine", "", *markdown_table(["", ""], rows)]

    def _configuration(self, name: str) -> list[str]:
        table = self.tables[name]
        lines = [
            f"## Values of {name.split('-')[0][:-1]} B, compression {name.split('-')[1]}",
            "",
            f"Rounds: {len(table.rounds)}.",
            "",
        ]
        lines += self._throughput(name, table) + self._raw(table)
        lines += self._per_side(
            "Writes per second of the thread that writes beside the readers", table, beside
        )
        lines += self._per_side("Operations per second as measured", table, ops)
        lines += self._per_side("Slowness of the cores meanwhile (1: as usual)", table, pace)
        lines += self._per_side(
            "Share of the cores' time in which the host did not run them though they had work, %",
            table,
            stolen_percent,
        )
        lines += self._per_side(
            "CPU time per operation at the cores' usual speed, µs, whole machine",
            table,
            paced_machine_us,
        )
        lines += self._per_side("The same as measured", table, machine_us)
        lines += self._per_side(
            "CPU time per operation as measured, µs, db_bench's threads only", table, group_us
        )
        lines += self._per_side(
            "CPU time as measured of the whole machine, with the compaction that settles "
            "what a workload leaves behind",
            table,
            settled_machine_us,
        )
        lines += self._device_bytes(table) + self._latencies(table)
        return lines

    def _throughput(self, name: str, table: Table) -> list[str]:
        rivals = [s for s in ("ext4", "xfs", "memory", CHECKSUMS) if s in self.sides]
        basalt = "basalt" in self.sides
        rows, bars = [], []
        for label in self.labels(table):
            ratios = [table.ratio(label, paced_ops, rival) for rival in rivals] if basalt else []
            cells = [with_spread(table.value(side, label, paced_ops)) for side in self.sides]
            told = [
                with_rounds(ratio, table.round_ratios(label, paced_ops, rival))
                for ratio, rival in zip(ratios, rivals)
            ]
            rows.append([label, *cells, *told, self._verdict(table, label)])
            bars.append((label, ratios))
        head = ["workload", *self.sides, *(f"/{r}" for r in rivals if basalt), "verdict"]
        lines = [
            "Operations per second at the cores' usual speed (median ± half the range of the rounds) and ratios of Basalt "
            "to the others (in parentheses the least and the most of the rounds' own ratios):",
            "",
            *markdown_table(head, rows),
        ]
        svg = (
            ratio_chart(
                f"Basalt's throughput over the others', {name}", [f"over {r}" for r in rivals], bars
            )
            if basalt
            else ""
        )
        if svg:
            (self.folder / f"ratios-{name}.svg").write_text(svg)
            lines += [f"![ratios](ratios-{name}.svg)", ""]
        return lines

    def _verdict(self, table: Table, label: str) -> str:
        checks = targets.judge(table, label)
        missed = [check.text for check in checks if not check.met]
        if not checks:
            return "–"
        return "missed: " + "; ".join(missed) if missed else "met"

    def _raw(self, table: Table) -> list[str]:
        raw = spread(table.raw_us)
        if raw is None:
            return []
        words = [
            f"One raw write of 4 KiB and flush at depth 1: {number(raw.median)} µs "
            f"({number(raw.low)} to {number(raw.high)})."
        ]
        for side in self.sides:
            multiple = targets.raw_multiple(table, "fillsync-1", side)
            if multiple is not None and side != "memory":
                words.append(f"fillsync-1 on {side}: {multiple:.2f}× that.")
        for label in ("readrandom-direct-16", "multireadrandom-direct"):
            depths = [
                f"{side} {number(found)}"
                for side in self.sides
                if side != "memory" and (found := table.median(side, label, depth)) is not None
            ]
            if depths:
                words.append(f"Mean device queue depth of {label}: {', '.join(depths)}.")
        if self.run["options"].get("discard"):
            words.append(f"The device saw {table.discards} discards.")
        elif table.discards:
            words.append(f"The device saw {table.discards} discards, which there should not be.")
        return [" ".join(words), ""]

    def _per_side(self, title: str, table: Table, of: Value) -> list[str]:
        rows = []
        for label in self.labels(table):
            cells = [number(table.median(side, label, of)) for side in self.sides]
            if any(cell != "–" for cell in cells):
                ratio = table.ratio(label, of, "ext4") if "basalt" in self.sides else None
                rows.append([label, *cells, factor(ratio)])
        return [f"{title}:", "", *markdown_table(["workload", *self.sides, "/ext4"], rows)]

    def _device_bytes(self, table: Table) -> list[str]:
        sides = [side for side in self.sides if side != "memory"]
        rows = []
        for label in self.labels(table):
            row = [label]
            for of in (written_per_op, settled_written_per_op, read_per_op, flushes_per_op):
                row += [number(table.median(side, label, of)) for side in sides]
            rows.append(row)
        head = [
            "workload",
            *(f"written {s}" for s in sides),
            *(f"settled {s}" for s in sides),
            *(f"read {s}" for s in sides),
            *(f"flushes {s}" for s in sides),
        ]
        return [
            'Device bytes and flushes per operation; "settled" is what was written until the state '
            "was settled:",
            "",
            *markdown_table(head, rows),
        ]

    def _latencies(self, table: Table) -> list[str]:
        rows = []
        for label in self.labels(table):
            row = [label]
            for of in (P50, P99, P999):
                row += [number(table.median(side, label, of)) for side in self.sides]
            rows.append(row)
        head = ["workload", *(f"{p} {s}" for p in ("p50", "p99", "p99.9") for s in self.sides)]
        return [
            "Latencies, µs (of reads where a workload does both; of batches where it batches):",
            "",
            *markdown_table(head, rows),
        ]

    def _failures(self) -> list[str]:
        failures = [r for r in self.records if r["kind"] == "failure"]
        if not failures:
            return []
        lines = ["## Failures", ""]
        for record in failures:
            lines += [
                f"{record['side']}, {record['configuration']}, round {record['round']}, "
                f"{record['group']}:",
                "",
                "```",
                record["error"],
                "```",
                "",
            ]
        return lines

    def _profiles(self) -> list[str]:
        profiles = [r for r in self.records if r["kind"] == "profile"]
        lines = ["## Where the time goes", ""] if profiles else []
        for record in profiles:
            lines += [
                f"{record['label']}, {record['configuration']}, {record['side']}: shares of the time in "
                f"which the cores were not idle, {record['busy']} of {record['samples']} samples of the "
                "CPU clock on the whole machine",
                "",
            ]
            lines += markdown_table(["task", "library or kernel", "share"], record["libraries"])
            lines += markdown_table([f"function in {record['library']}", "share"], record["functions"])
        return lines
