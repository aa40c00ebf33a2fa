"""What the harness reads and computes, on db_bench's real lines and on made-up results.

Method: pure functions only; no device, no db_bench, no root. The lines are db_bench 7.8's own.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import cgroup
import pace
import results
import targets
from chart import ratio_chart
from device import parse_stat
from measure import (
    BenchError,
    Collector,
    Figures,
    Snapshot,
    machine_cpu_seconds,
    parse_result,
    stolen_seconds,
)
from options import parse_size
from perf import by_task, functions_of, parse_shares, task_kind
from report import Report
from results import P999, Table
from turn import SETTLED, merged, with_settling
from workloads import LABELS, MIB, Benchmark, Configuration, Scale, make_groups

OUTPUT = """\
RocksDB:    version 7.8.3
DB path: [/db]
fillrandom   :       0.963 micros/op 1035571 ops/sec 0.019 seconds 20000 operations;  114.6 MB/s
Microseconds per write:
Percentiles: P50: 13.26 P75: 14.88 P99: 49.58 P99.9: 2275.00 P99.99: 2607.00
DB path: [/db]
compact      :   62858.000 micros/op 15 ops/sec 0.063 seconds 1 operations;
DB path: [/db]
readrandomwriterandom :  2.0 micros/op 478194 ops/sec 0.010 seconds 5000 operations; ( reads:4500
Microseconds per read:
Percentiles: P50: 1.10 P75: 1.57 P99: 2.71 P99.9: 18.50 P99.99: 2438.00
Microseconds per write:
Percentiles: P50: 1.42 P75: 1.76 P99: 3.90 P99.9: 8.00 P99.99: 8.00
"""
BENCHMARKS = (
    Benchmark("fillrandom", "fillrandom"),
    Benchmark("compact"),
    Benchmark("readrandomwriterandom", "mix-50"),
)


def collect(text: str, benchmarks: tuple[Benchmark, ...]) -> Collector:
    """Each snapshot is one second and half a CPU second after the one before."""
    count = 0

    def snapshot() -> Snapshot:
        nonlocal count
        count += 1
        return Snapshot(count, count / 4, count / 2, count / 8 * (os.cpu_count() or 1), None)

    collector = Collector(benchmarks, snapshot)
    for line in text.splitlines():
        collector.line(line)
    return collector


class ParsingTest(unittest.TestCase):
    def test_each_benchmark_gets_its_own_figures(self) -> None:
        figures = collect(OUTPUT, BENCHMARKS).figures
        self.assertEqual([f.name for f in figures], [b.name for b in BENCHMARKS])
        self.assertEqual(figures[0].operations, 20000)
        self.assertEqual(figures[0].latency, {"write": [13.26, 49.58, 2275.0]})
        self.assertEqual(figures[1].latency, {})
        self.assertEqual(set(figures[2].latency), {"read", "write"})
        self.assertEqual([f.machine_cpu for f in figures], [0.5, 0.5, 0.5])
        self.assertEqual([f.stolen for f in figures], [0.125, 0.125, 0.125])
        self.assertEqual([f.elapsed for f in figures], [1, 1, 1])

    def test_writes_beside_a_benchmark_are_counted_from_its_start(self) -> None:
        benchmark = Benchmark("readwhilewriting", "readwhilewriting", counts_writes=True)
        text = """\
DB path: [/db]
readseq      :       0.963 micros/op 1035571 ops/sec 0.019 seconds 20000 operations;  114.6 MB/s
Interval writes: 999K writes, 999K keys, 999K commit groups, 1.0 writes per commit group
DB path: [/db]
readwhilewriting :  2.0 micros/op 478194 ops/sec 2.0 seconds 5000 operations; ( 1 of 1 found)
Interval writes: 1234K writes, 1234K keys, 1234K commit groups, 1.0 writes per commit group
DB path: [/db]
compact      :   62858.000 micros/op 15 ops/sec 0.063 seconds 1 operations;
"""
        figures = collect(text, (Benchmark("readseq"), benchmark, Benchmark("compact"))).figures
        self.assertEqual([f.writes_beside for f in figures], [None, 1234000, None])
        self.assertEqual(benchmark.words(), ["stats", "readwhilewriting", "stats"])
        self.assertEqual(results.beside(with_settling(figures)[0]), 617000)

    def test_a_result_nobody_asked_for_is_an_error(self) -> None:
        with self.assertRaisesRegex(BenchError, "compact where readseq was due"):
            collect(OUTPUT, (BENCHMARKS[0], Benchmark("readseq"), BENCHMARKS[2]))
        with self.assertRaisesRegex(BenchError, "not asked for: readrandomwriterandom"):
            collect(OUTPUT, BENCHMARKS[:2])

    def test_low_rates_come_from_the_seconds(self) -> None:
        parsed = parse_result(OUTPUT.splitlines()[6])
        assert parsed is not None
        self.assertAlmostEqual(parsed[3], 1 / 0.063)

    def test_settling_belongs_to_the_benchmark_before(self) -> None:
        records = with_settling(collect(OUTPUT, BENCHMARKS).figures)
        self.assertEqual([r["label"] for r in records], ["fillrandom", "mix-50"])
        self.assertEqual(records[0]["settle"]["machine_cpu"], 0.5)
        self.assertNotIn("settle", records[1])

    def test_kernel_counters(self) -> None:
        stat = parse_stat("10 1 16 5 20 2 32 7 0 30 12 4 0 0 0 3 1\n")
        self.assertEqual(
            (stat.reads, stat.read_bytes, stat.writes, stat.written_bytes), (10, 8192, 20, 16384)
        )
        self.assertEqual((stat.queue_ms, stat.flushes, stat.discards), (12, 3, 4))
        # user nice system idle iowait irq softirq steal
        self.assertAlmostEqual(
            machine_cpu_seconds("cpu  100 1 50 9999 888 2 3 777 0 0\ncpu0 1\n"), 1.56
        )
        self.assertEqual(stolen_seconds("cpu  100 1 50 9999 888 2 3 777 0 0\ncpu0 1\n"), 7.77)

    def test_sizes_and_profiles(self) -> None:
        self.assertEqual(
            [parse_size(t) for t in ("100", "1K", "1.5M", "2GiB")],
            [100, 1024, 1536 * 1024, 2 << 30],
        )

    def test_profiles(self) -> None:
        text = (
            "# head\n 40.00%\tswapper\t[kernel.kallsyms]\n  30.0%\trocksdb:low1\tlib a.so\n"
            "  10.0%\trocksdb:low0\tlib a.so\n  20.00%\tkworker/1:0-x\t[kernel.kallsyms]\nno share\n"
        )
        busy, rows = by_task(parse_shares(text, 2))
        self.assertEqual(busy, 60)
        self.assertEqual(
            rows, [["rocksdb:low", "lib a.so", "66.7 %"], ["kworker", "kernel", "33.3 %"]]
        )
        functions = "1.5%\tdb_bench\t[.] a::b(int)\n3%\tbasalt-bg\t[.] a::b(int)\n9%\tswapper\t[k] halt\n"
        self.assertEqual(functions_of(parse_shares(functions, 2), 50), [["a::b(int)", "9.0 %"]])
        self.assertEqual(task_kind(":-1"), ":-1")
        self.assertEqual(by_task(parse_shares(" 100%\tswapper\t[kernel.kallsyms]\n", 2)), (0, []))


class CgroupTest(unittest.TestCase):
    """Version 2, on a folder that looks like its hierarchy."""

    def test_version_2(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "cgroup.controllers").write_text("cpu io memory\n")
            with unittest.mock.patch.object(cgroup, "ROOT", root):
                group = cgroup.Cgroup("bench", 5 * MIB)
            self.assertEqual((root / "cgroup.subtree_control").read_text(), "+memory +cpu\n")
            self.assertEqual((root / "bench/memory.max").read_text(), f"{5 * MIB}\n")
            (root / "bench/cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
            self.assertEqual(group.cpu_seconds(), 2.5)
            self.assertIn(f"{root}/bench/cgroup.procs", " ".join(group.entering(["true"])))

    def test_no_memory_controller_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "cgroup.controllers").write_text("cpu\n")
            with unittest.mock.patch.object(cgroup, "ROOT", Path(folder)):
                with self.assertRaisesRegex(cgroup.CgroupError, "memory controller"):
                    cgroup.Cgroup("bench", None)


class PaceTest(unittest.TestCase):
    """How fast the cores were."""

    def test_samples_are_whole_lines(self) -> None:
        text = "1.5 300.0 70 .\n2.5 310.5 75 .\n3.5 3"
        self.assertEqual(
            pace.parse(text), [pace.Sample(1.5, 300.0, 70), pace.Sample(2.5, 310.5, 75)]
        )

    def test_busy_time_is_of_the_one_core(self) -> None:
        stat = "cpu  9 9 9 9 9 9 9\ncpu0 1 2 4 800 1600 8 16 32\ncpu1 5 0 0 7 7 0 0 0\n"
        self.assertEqual(pace.busy_ticks(stat, 0), 31)
        self.assertEqual(pace.busy_ticks(stat, 1), 5)
        with self.assertRaisesRegex(ValueError, "no core 2"):
            pace.busy_ticks(stat, 2)

    def test_the_busier_core_counts_more(self) -> None:
        idle = [pace.Sample(t, 300.0, 50) for t in (0.0, 1.0, 2.0)]
        busy = [pace.Sample(t, 600.0, 50 + int(99 * t)) for t in (0.0, 1.0, 2.0)]
        self.assertEqual(pace.loop_us([idle], 0, 2), 300)
        self.assertAlmostEqual(pace.loop_us([idle, busy], 0, 2), (300 + 199 * 600) / 200)
        self.assertIsNone(pace.loop_us([idle, busy], 0.5, 1.5), "one sample is no interval")

    def test_sampling_a_core(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            sampling = pace.Pace(Path(folder))
            try:
                while sampling.loop_us(begin, time.monotonic()) is None:
                    time.sleep(0.05)
                self.assertGreater(sampling.loop_us(begin, time.monotonic()), 1)
                sampling.forget()
                self.assertIsNone(sampling.loop_us(begin, begin + 1e-9))
            finally:
                sampling.close()
            self.assertEqual(list(Path(folder).iterdir()), [])


class WorkloadsTest(unittest.TestCase):
    def groups(self, *only: str):
        return make_groups(Configuration(1024, "lz4"), Scale(1, 1 << 30), set(only))

    def test_every_label_is_in_one_group_and_has_a_target(self) -> None:
        labels = [label for group in self.groups() for label in group.labels()]
        self.assertEqual(sorted(labels), sorted(LABELS))
        self.assertEqual(set(targets.TARGETS), set(LABELS))

    def test_only_keeps_what_the_wanted_benchmark_needs(self) -> None:
        (group,) = self.groups("readwhilewriting-10M")
        self.assertEqual(
            [b.name for b in group.steps[0].benchmarks], ["filluniquerandom", "compact"]
        )
        self.assertEqual(
            [b.name for b in group.steps[1].benchmarks], ["readseq", "readwhilewriting", "compact"]
        )
        self.assertEqual(group.labels(), {"readwhilewriting-10M"})
        (group,) = self.groups("overwrite")
        self.assertEqual(
            [b.name for b in group.steps[0].benchmarks],
            ["fillseq", "fillrandom"] * 2 + ["compact"] + ["overwrite", "compact"] * 2,
        )

    def test_in_memory_a_group_is_one_process(self) -> None:
        for group in self.groups():
            steps = group.joined().steps
            self.assertEqual(len(steps), 1)
            self.assertNotIn("benchmark_write_rate_limit", steps[0].flags)

    def test_direct_data_is_four_times_the_limit(self) -> None:
        for value in (100, 1024):
            for kind, share in (("none", 1.0), ("lz4", 0.5)):
                scale = Scale(1, 1 << 30)
                keys = scale.direct_keys(Configuration(value, kind))
                self.assertGreaterEqual(keys * (16 + value * share), 4 * 128 * MIB)


def turn(side: str, number: int, rates: dict[str, float], cpu: float = 1.0) -> dict:
    figures = [
        {
            "label": label,
            "operations": 1000,
            "seconds": 1000 / rate,
            "ops_per_second": rate,
            "latency": {"read": [1, 2, rate]},
            "elapsed": 1,
            "group_cpu": cpu,
            "machine_cpu": cpu,
            "read_bytes": 0,
            "written_bytes": 0,
            "queue_depth": 15.0,
        }
        for label, rate in rates.items()
    ]
    return {
        "kind": "turn",
        "configuration": "100B-none",
        "round": number,
        "group": "cached",
        "side": side,
        "raw_us": 100.0,
        "peak_bytes": 0,
        "figures": figures,
    }


class MergedTest(unittest.TestCase):
    def part(self, operations: int, seconds: float, **fields: object) -> dict:
        figures = Figures("readseq", "readseq-cached", operations, seconds, operations / seconds)
        return dataclasses.asdict(dataclasses.replace(figures, elapsed=seconds, **fields))

    def test_what_was_measured_twice_is_one_record(self) -> None:
        other = dict(self.part(5, 1), label="seekrandom")
        slow = {"machine_cpu": 2.0, "loop_us": 10.0, "latency": {"read": [1, 2, 3]}}
        first = self.part(100, 1, **slow)
        fast = {"machine_cpu": 1.0, "loop_us": 20.0, "latency": {"read": [3, 4, 9]}}
        second = self.part(200, 3, stolen=0.25, **fast)
        one, same = merged([first, other, second])
        self.assertEqual((one["operations"], one["seconds"], one["elapsed"]), (300, 4, 4))
        self.assertEqual((one["ops_per_second"], one["machine_cpu"]), (75, 3.0))
        self.assertEqual((one["loop_us"], one["latency"]), (17.5, {"read": [2, 3, 6]}))
        self.assertEqual(one["stolen"], 0.1875)
        self.assertIsNone(one["writes_beside"])
        self.assertEqual(same, other)

    def test_without_a_sampled_part_there_is_no_pace(self) -> None:
        (one,) = merged([self.part(1, 1, writes_beside=2), self.part(1, 1, writes_beside=3)])
        self.assertIsNone(one["loop_us"])
        self.assertEqual(one["writes_beside"], 5)
        (one,) = merged([self.part(1, 1), self.part(1, 3, loop_us=4.0)])
        self.assertEqual(one["loop_us"], 4.0)

    def test_settling_is_added_up(self) -> None:
        parts = [self.part(1, 1) | {"settle": dict.fromkeys(SETTLED, n)} for n in (1, 2)]
        self.assertEqual(merged(parts)[0]["settle"], dict.fromkeys(SETTLED, 3))
        self.assertNotIn("settle", merged([parts[0], self.part(1, 1)])[0])


class ResultsTest(unittest.TestCase):
    def table(self, **rates: float) -> Table:
        records = [
            turn(side, n, {"fillseq": rate}) for side, rate in rates.items() for n in (1, 2, 3)
        ]
        return Table(records, "100B-none")

    def test_medians_and_spread(self) -> None:
        table = Table(
            [turn("ext4", n, {"readseq": r}) for n, r in enumerate((5, 1, 3))], "100B-none"
        )
        value = table.value("ext4", "readseq", results.ops)
        assert value is not None
        self.assertEqual((value.median, value.low, value.high, value.count), (3, 1, 5, 3))
        self.assertEqual(table.median("ext4", "readseq", P999), 3)
        self.assertIsNone(table.median("xfs", "readseq", results.ops))

    def test_the_ceiling_lowers_a_target_but_not_below_one(self) -> None:
        self.assertAlmostEqual(
            targets.needed(self.table(ext4=100, memory=300), "fillseq", "ext4"), 1.15
        )
        self.assertAlmostEqual(
            targets.needed(self.table(ext4=100, memory=110), "fillseq", "ext4"), 1.045
        )
        self.assertAlmostEqual(
            targets.needed(self.table(ext4=100, memory=104), "fillseq", "ext4"), 1.0
        )
        self.assertAlmostEqual(
            targets.needed(self.table(ext4=100, memory=90), "fillseq", "ext4"), 1.0
        )

    def test_ratios_of_the_rounds(self) -> None:
        records = [turn("basalt", n, {"fillseq": r}) for n, r in ((1, 10), (2, 30), (3, 40))]
        records += [turn("ext4", n, {"fillseq": r}) for n, r in ((3, 20), (2, 20))]
        value = Table(records, "100B-none").round_ratios("fillseq", results.ops, "ext4")
        assert value is not None
        self.assertEqual((value.low, value.high, value.count), (1.5, 2.0, 2))

    def test_slow_cores_are_told_from_slow_sides(self) -> None:
        slow, usual, fast = (
            turn("ext4", 1, {"readseq": 50, "fillsync-1": 50}),
            turn("ext4", 2, {"readseq": 100, "fillsync-1": 50}),
            turn("basalt", 1, {"readseq": 220, "fillsync-1": 50}),
        )
        for record, took in ((slow, 600.0), (usual, 300.0), (fast, 150.0)):
            for figures in record["figures"]:
                figures["loop_us"] = took
        table = Table([slow, usual, fast], "100B-none")
        self.assertEqual(table.median("ext4", "readseq", results.paced_ops), 100)
        self.assertEqual(table.median("basalt", "readseq", results.paced_ops), 110)
        self.assertEqual(table.median("basalt", "readseq", results.ops), 220)
        self.assertEqual(table.ratio("fillsync-1", results.paced_ops, "ext4"), 1, "the device's")
        cpu = [f["machine_cpu"] * 1e6 / f["operations"] for f in fast["figures"]]
        self.assertEqual(table.median("basalt", "readseq", results.paced_machine_us), cpu[0] * 2)

    def test_how_closely_work_follows_the_loop_is_found_from_the_rounds(self) -> None:
        def rounds(count: int, power: float) -> list[dict]:
            made = []
            for number in range(count):
                for side, rate in (("ext4", 100.0), ("basalt", 300.0)):
                    took = 300.0 * (1 + number % 4)
                    made.append(turn(side, number, {"readseq": rate * took**-power}))
                    made[-1]["figures"][0]["loop_us"] = took
            return made

        self.assertAlmostEqual(results.pace_power(rounds(20, 0.5)), 0.5)
        self.assertEqual(results.pace_power(rounds(20, -0.5)), 0, "never a correction upside down")
        self.assertEqual(results.pace_power(rounds(20, 1.5)), 1, "nor more than the loop's own")
        self.assertEqual(results.pace_power(rounds(3, 0.5)), 1, "too few to tell")
        table = Table(rounds(20, 0.5), "100B-none")
        self.assertAlmostEqual(table.ratio("readseq", results.paced_ops, "ext4"), 3)
        self.assertAlmostEqual(table.value("ext4", "readseq", results.paced_ops).half_width, 0)

    def test_verdicts(self) -> None:
        table = Table(
            [
                turn("basalt", 1, {"fillsync-1": 8000}, cpu=0.5),
                turn("ext4", 1, {"fillsync-1": 4100}),
            ],
            "100B-none",
        )
        checks = {check.what: check.met for check in targets.judge(table, "fillsync-1")}
        self.assertEqual(checks, {"ext4": False, "raw": True, "CPU": True})

    def test_a_cut_off_last_line_is_dropped_and_a_broken_one_is_not(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.jsonl"
            results.rewrite(path, [{"kind": "run"}, turn("ext4", 1, {"readseq": 5})])
            path.write_text(path.read_text() + '{"kind": "tu')
            self.assertEqual(len(results.load(path)), 2)
            path.write_text('{"kind": "run"}\n{"kind"\n{"kind": "turn"}\n')
            with self.assertRaisesRegex(results.ResultsError, "jsonl:2: not JSON"):
                results.load(path)

    def test_the_report_is_written_from_the_records_alone(self) -> None:
        head = {
            "kind": "run",
            "machine": {"CPU": "x"},
            "device": "d",
            "load": 0.0,
            "command": "c",
            "flags": [],
            "options": {
                "sides": ["basalt", "ext4"],
                "configurations": ["100B-none"],
                "memory": MIB,
                "direct_memory": MIB,
                "cache": MIB,
                "scale": 1.0,
            },
        }
        failure = {
            "kind": "failure",
            "configuration": "100B-none",
            "round": 1,
            "side": "ext4",
            "group": "direct",
            "error": "no space",
        }
        records = [
            head,
            turn("basalt", 1, {"readseq": 90}),
            turn("ext4", 1, {"readseq": 100}),
            failure,
        ]
        with tempfile.TemporaryDirectory() as folder:
            text = Report(records, Path(folder)).write().read_text()
            self.assertTrue((Path(folder) / "ratios-100B-none.svg").exists())
        self.assertIn("| readseq | 90.0 | 100 | 0.90× | missed: 0.90× ext4, target 1.15×", text)
        self.assertNotIn("failed in round", text)
        self.assertIn("no space", text)

    def test_chart_without_ratios_is_no_chart(self) -> None:
        self.assertEqual(ratio_chart("t", ["a"], [("x", [None])]), "")
        self.assertIn("0.01<", ratio_chart("t", ["a"], [("x", [0.01]), ("y", [20.0])]))


if __name__ == "__main__":
    unittest.main()
