"""Runs one db_bench process and gives each of its benchmarks its own figures.

db_bench runs several benchmarks in one process and prints "DB path:" before each and a result line
after it. Its standard output is a pseudo-terminal, so that lines arrive when they are printed, and
at these two lines the counters are read: CPU time of the control group, busy time of the whole
machine, the device's statistics. The interval excludes destroying and opening the database.

Two CPU figures are kept. That of the group holds only db_bench's own threads. That of the machine
(/proc/stat, everything but idle, I/O wait and steal) also holds write-back, journal and loop
threads, which is where a kernel file system does much of its work: on an idle machine it is the
honest one.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

from cgroup import Cgroup
from device import BlockDevice, DeviceStat
from workloads import Benchmark

TICKS = os.sysconf("SC_CLK_TCK")
RESULT = re.compile(
    r"^(?P<name>\w+)\s*:\s+(?P<micros>[\d.]+) micros/op (?P<rate>\d+) ops/sec "
    r"(?P<seconds>[\d.]+) seconds (?P<operations>\d+) operations;"
)
KIND = re.compile(r"^Microseconds per (\w+):")
BESIDE = re.compile(r"^Interval writes: (\d+)([KMG]?) writes")
PERCENTILES = re.compile(r"P50: ([\d.]+) .*P99: ([\d.]+) P99\.9: ([\d.]+)")


# RocksDB prints large counts in these, rounded down.
COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


class BenchError(Exception):
    """db_bench ended badly; the text has the end of what it printed."""


@dataclass
class Snapshot:
    when: float
    group_cpu: float
    machine_cpu: float
    stolen: float  # seconds, of all cores
    device: DeviceStat | None


@dataclass
class Figures:
    """One benchmark of one process."""

    name: str
    label: str | None
    operations: int
    seconds: float
    ops_per_second: float
    # kind of operation (read, write, …) → p50, p99, p99.9 in µs
    latency: dict[str, list[float]] = field(default_factory=dict)
    elapsed: float = 0  # between the two snapshots
    loop_us: float | None = None  # what the loop of pace.py took meanwhile
    begin: float = 0  # time.monotonic() at the first
    group_cpu: float = 0  # seconds
    machine_cpu: float = 0  # seconds
    stolen: float = 0  # share of the cores' time in which the host let them wait
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0  # commands
    writes: int = 0
    flushes: int = 0
    discards: int = 0
    queue_depth: float = 0  # mean requests in flight
    writes_beside: int | None = None  # by a thread whose operations do not count


def machine_cpu_seconds(text: str) -> float:
    """Busy time of all cores from /proc/stat: user, nice, system, irq, softirq."""
    word = text.split(maxsplit=8)[1:8]
    return sum(int(word[i]) for i in (0, 1, 2, 5, 6)) / TICKS


def stolen_seconds(text: str) -> float:
    """Of all cores from /proc/stat: time in which they had work and the host did not run them."""
    return int(text.split(maxsplit=9)[8]) / TICKS


def take_snapshot(cgroup: Cgroup, device: BlockDevice | None) -> Snapshot:
    stat = Path("/proc/stat").read_text()
    return Snapshot(
        time.monotonic(),
        cgroup.cpu_seconds(),
        machine_cpu_seconds(stat),
        stolen_seconds(stat),
        device.stat() if device else None,
    )


def parse_result(line: str) -> tuple[str, int, float, float] | None:
    """Name, operations, seconds, operations per second of a result line."""
    found = RESULT.match(line)
    if not found:
        return None
    operations, seconds = int(found["operations"]), float(found["seconds"])
    # The printed rate has no decimals, the printed seconds have three: the finer one counts.
    rate = float(found["rate"])
    if rate < 1000 and seconds > 0:
        rate = operations / seconds
    return found["name"], operations, seconds, rate


def set_interval(figures: Figures, begin: Snapshot, end: Snapshot) -> None:
    figures.begin, figures.elapsed = begin.when, end.when - begin.when
    figures.group_cpu = end.group_cpu - begin.group_cpu
    figures.machine_cpu = end.machine_cpu - begin.machine_cpu
    if figures.elapsed > 0:
        figures.stolen = (end.stolen - begin.stolen) / (figures.elapsed * (os.cpu_count() or 1))
    if begin.device is None or end.device is None:
        return
    delta = end.device.minus(begin.device)
    figures.read_bytes, figures.written_bytes = delta.read_bytes, delta.written_bytes
    figures.discards = delta.discards
    figures.reads, figures.writes, figures.flushes = delta.reads, delta.writes, delta.flushes
    figures.queue_depth = delta.queue_ms / 1e3 / figures.elapsed if figures.elapsed > 0 else 0


class Collector:
    """Turns db_bench's lines into figures; `snapshot` is called at the two lines that bound one."""

    def __init__(self, benchmarks: tuple[Benchmark, ...], snapshot, on_window=None) -> None:
        self.benchmarks = benchmarks
        self.snapshot = snapshot
        self.on_window = on_window or (lambda benchmark, begins: None)
        self.begin: Snapshot | None = None
        self.kind = ""
        self.figures: list[Figures] = []

    def line(self, text: str) -> None:
        if text.startswith("DB path:") and len(self.figures) < len(self.benchmarks):
            self.on_window(self.benchmarks[len(self.figures)], True)
            self.begin = self.snapshot()
        elif (parsed := parse_result(text)) is not None:
            self._finish(*parsed)
        elif found := BESIDE.match(text):
            self._wrote_beside(int(found[1]) * COUNT_UNITS[found[2]])
        elif found := KIND.match(text):
            self.kind = found[1]
        elif (found := PERCENTILES.search(text)) and self.figures:
            self.figures[-1].latency[self.kind] = [float(found[i]) for i in (1, 2, 3)]

    def _wrote_beside(self, count: int) -> None:
        # The first of two says what was written before the benchmark.
        done = len(self.figures)
        if done and self.benchmarks[done - 1].counts_writes:
            if self.figures[-1].writes_beside is None:
                self.figures[-1].writes_beside = count

    def _finish(self, name: str, operations: int, seconds: float, rate: float) -> None:
        end = self.snapshot()
        if len(self.figures) == len(self.benchmarks) or self.begin is None:
            raise BenchError(f"db_bench printed a result that was not asked for: {name}")
        benchmark = self.benchmarks[len(self.figures)]
        self.on_window(benchmark, False)
        if name != benchmark.name:
            raise BenchError(f"db_bench answered {name} where {benchmark.name} was due")
        figures = Figures(name, benchmark.label, operations, seconds, rate)
        set_interval(figures, self.begin, end)
        self.begin = None
        self.figures.append(figures)


running: subprocess.Popen | None = None


def stop_running() -> None:
    """Ends the db_bench process of this program, if there is one, with its children."""
    if running is not None and running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def read_lines(fd: int, process: subprocess.Popen, deadline: float) -> Iterator[str]:
    """Lines of the terminal until its other end closes."""
    rest = b""
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            stop_running()
            raise BenchError("db_bench did not finish in time")
        try:
            got = os.read(fd, 65536)
        except OSError:  # EIO: every descriptor of the other end is closed
            got = b""
        if not got:
            break
        *lines, rest = (rest + got).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    yield rest.decode(errors="replace")


def run_db_bench(
    command: list[str],
    benchmarks: tuple[Benchmark, ...],
    cgroup: Cgroup,
    device: BlockDevice | None,
    log: Path,
    on_window=None,
    timeout: float = 900,
) -> list[Figures]:
    """`command` with --benchmarks added; its whole output goes to `log`."""
    global running
    names = ",".join(word for b in benchmarks for word in b.words())
    words = cgroup.entering([*command, f"--benchmarks={names}"])
    collector = Collector(benchmarks, lambda: take_snapshot(cgroup, device), on_window)
    master, slave = pty.openpty()
    tty.setraw(slave)
    with open(log, "w", encoding="utf-8") as out, open(f"{log}.stderr", "wb") as errors:
        running = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=slave, stderr=errors, start_new_session=True
        )
        os.close(slave)
        try:
            for line in read_lines(master, running, time.monotonic() + timeout):
                out.write(line + "\n")
                collector.line(line)
            status = running.wait()
        finally:
            stop_running()
            os.close(master)
    if status != 0 or len(collector.figures) != len(benchmarks):
        raise BenchError(
            f"db_bench ended with status {status} after {len(collector.figures)} of "
            f"{len(benchmarks)} benchmarks:\n{ending(log)}"
        )
    return collector.figures


def ending(log: Path) -> str:
    """The last lines of both streams, without progress."""
    text = []
    for path in (log, Path(f"{log}.stderr")):
        lines = path.read_text(errors="replace").replace("\r", "\n").splitlines()
        text += [line for line in lines if line.strip() and not line.startswith("... finished")][
            -8:
        ]
    return "\n".join(text)
