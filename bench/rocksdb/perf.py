"""Where the time goes: perf samples the whole machine, only while the workload in question runs.

The whole machine, because a kernel file system does much of its work on threads of the kernel. perf
starts with sampling off; its control pipe switches it on when db_bench says the benchmark begins and
off when it prints the result, so loading and settling are not in the profile.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from device import run_tool
from measure import BenchError, run_db_bench
from results import Record
from sides import CHECKSUMS
from turn import Turn
from workloads import Benchmark, Step

SHARE = re.compile(r"^\s*([\d.]+)%\s+(.+?)\s*$")
SAMPLES = re.compile(r"^# Samples: (\S+)")
# The file whose functions are listed.
LIBRARIES = dict.fromkeys(("basalt", CHECKSUMS), "librocksdb_basalt.so")
KERNEL = "[kernel.kallsyms]"
IDLE = "swapper"
LISTED = 25


class Control:
    """perf's --control=fifo: commands one way, acknowledgements the other."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "perf.control", folder / "perf.ack"]
        for path in self.paths:
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        self.fds = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in self.paths]

    def option(self) -> str:
        return f"--control=fifo:{self.paths[0]},{self.paths[1]}"

    def send(self, word: str) -> None:
        os.write(self.fds[0], f"{word}\n".encode())
        os.read(self.fds[1], 64)

    def close(self) -> None:
        for fd, path in zip(self.fds, self.paths):
            os.close(fd)
            path.unlink(missing_ok=True)


def parse_shares(report: str, columns: int) -> list[tuple[float, list[str]]]:
    """Share in percent and the names beside it, of each line of perf report's text."""
    rows = []
    for line in report.splitlines():
        found = SHARE.match(line)
        names = [name.strip() for name in found[2].split("\t")] if found else []
        if found and len(names) >= columns:
            rows.append((float(found[1]), names[:columns]))
    return rows


def task_kind(name: str) -> str:
    """Threads of a pool by the pool's name: kworker/1:2-loop0 as kworker, rocksdb:low3 as rocksdb:low."""
    return re.split(r"[/\d]", name, maxsplit=1)[0].rstrip("-:") or name


def by_task(rows: list[tuple[float, list[str]]]) -> tuple[float, list[list[str]]]:
    """The share that was not idle, and what each kind of task spent where, in percent of that."""
    sums: dict[tuple[str, str], float] = {}
    for share, (task, library) in rows:
        if task != IDLE:
            key = (task_kind(task), "kernel" if library == KERNEL else library)
            sums[key] = sums.get(key, 0) + share
    busy = sum(sums.values())
    most = sorted(sums.items(), key=lambda item: -item[1])
    return busy, [[task, library, f"{100 * share / busy:.1f} %"] for (task, library), share in most]


def functions_of(rows: list[tuple[float, list[str]]], busy: float) -> list[list[str]]:
    """Functions outside the idle task with their share of `busy`, the most first."""
    sums: dict[str, float] = {}
    for share, (task, symbol) in rows:
        if task != IDLE:
            name = symbol.removeprefix("[k] ").removeprefix("[.] ")
            sums[name] = sums.get(name, 0) + share
    most = sorted(sums.items(), key=lambda item: -item[1])
    return [[name, f"{100 * share / busy:.1f} %"] for name, share in most]


def _report(data: Path, *options: str) -> str:
    return run_tool(
        ["perf", "report", "--stdio", "--no-children", "-g", "none", "-t", "\t", "-i", str(data)]
        + list(options)
    )


def profile(turn: Turn, label: str, folder: Path) -> Record:
    """A turn with only the group of `label`; the whole machine is sampled during its benchmark."""
    turn.prepare()
    side = turn.side.name
    data = folder / f"perf.{label}.{turn.configuration.name}.{side}.data"
    for number, step in enumerate(turn.steps()):
        _run_step(turn, step, number, label, data)
    if problem := turn.side.finish():
        raise BenchError(f"{label} on {side}: the check at the end: {problem}")
    tasks = _report(data, "--sort", "comm,dso")
    count = next((m[1] for line in tasks.splitlines() if (m := SAMPLES.match(line))), "0")
    busy, libraries = by_task(parse_shares(tasks, 2))
    if not libraries:
        raise BenchError(f"{label} on {side} was over before perf took a sample; give more (--scale)")
    library = LIBRARIES.get(side, KERNEL)
    functions = parse_shares(_report(data, "--sort", "comm,symbol", "--dsos", library), 2)
    return {
        "kind": "profile",
        "label": label,
        "configuration": turn.configuration.name,
        "side": side,
        "samples": count,
        "busy": f"{busy:.0f} %",
        "libraries": libraries[:LISTED],
        "library": library,
        "functions": functions_of(functions, busy)[:LISTED],
    }


def _run_step(turn: Turn, step: Step, number: int, label: str, data: Path) -> None:
    command = turn.step_command(step, number)
    sampled = label in step.labels()
    control = Control(data.parent) if sampled else None
    cgroup = turn.open_cgroup(step)

    def window(benchmark: Benchmark, begins: bool) -> None:
        if control and benchmark.label == label:
            control.send("enable" if begins else "disable")

    try:
        if control:
            command = [
                "perf",
                "record",
                "-e",
                "cpu-clock",
                "-F",
                "999",
                "-a",
                "-g",
                "--delay=-1",
                control.option(),
                "-o",
                str(data),
                "--",
                *command,
            ]
        run_db_bench(
            command,
            step.benchmarks,
            cgroup,
            turn.device,
            turn.logs / f"perf.{label}.{turn.side.name}.{number}.log",
            window,
        )
    finally:
        cgroup.close()
        if control:
            control.close()
