"""Where the time goes: perf samples db_bench on Basalt, only while the workload in question runs.

perf starts with sampling off; its control pipe switches it on when db_bench says the benchmark
begins and off when it prints the result, so loading and settling are not in the profile.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from device import run_tool
from measure import run_db_bench
from results import Record
from turn import Turn
from workloads import Benchmark, Step

# A share and a name; columns after it may be "-".
LINE = re.compile(r"^\s*([\d.]+)%\s+(?:\[[.k]\] )?(.+?)(?:\s+-)*\s*$")
SAMPLES = re.compile(r"^# Samples: (\S+)")
LIBRARY = "librocksdb_basalt.so"


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


def shares(report: str, limit: int) -> list[list[str]]:
    """Rows of name and share from perf report's text."""
    rows = []
    for line in report.splitlines():
        if found := LINE.match(line):
            rows.append([found[2], f"{float(found[1]):.1f} %"])
    return rows[:limit]


def _report(data: Path, *options: str) -> str:
    return run_tool(
        ["perf", "report", "--stdio", "--no-children", "-g", "none", "-i", str(data), *options]
    )


def profile(turn: Turn, label: str, folder: Path) -> Record:
    """One turn of Basalt with only the group of `label`; its benchmark is sampled."""
    turn.prepare()
    data = folder / f"perf.{label}.{turn.configuration.name}.data"
    for number, step in enumerate(turn.steps()):
        _run_step(turn, step, number, label, data)
    turn.side.finish()
    libraries = _report(data, "--sort", "dso")
    count = next((m[1] for line in libraries.splitlines() if (m := SAMPLES.match(line))), "0")
    functions = _report(data, "--sort", "symbol", "--dsos", LIBRARY)
    return {
        "kind": "profile",
        "label": label,
        "configuration": turn.configuration.name,
        "samples": count,
        "libraries": shares(libraries, 12),
        "functions": shares(functions, 25),
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
            turn.logs / f"perf.{label}.{number}.log",
            window,
        )
    finally:
        cgroup.close()
        if control:
            control.close()
