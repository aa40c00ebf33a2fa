"""How fast the cores are while something is measured.

A virtual machine's core may share its execution units with a neighbour it cannot see: then everything takes
up to twice as long, for seconds or minutes, and no counter of the guest says so. So a small process on each
core times a loop that is always the same, some twenty times a second, in CPU time of its own: waiting for
the core does not count. The mean over the cores, weighted with how busy each was, is what the loop took in an
interval. Costs about 3 % of each core, on every side.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WARM_UP, ITERATIONS = 2500, 7500  # of the loop: a tenth and a third of a millisecond
PAUSE = 0.05


@dataclass(frozen=True)
class Sample:
    when: float  # time.monotonic(), which all processes share
    loop_us: float
    busy: int  # ticks of the core since the machine was started


def busy_ticks(stat: str, cpu: int) -> int:
    """Of one core, from /proc/stat: user, nice, system, irq, softirq."""
    for line in stat.splitlines():
        word = line.split()
        if word[0] == f"cpu{cpu}":
            return sum(int(word[i]) for i in (1, 2, 3, 6, 7))
    raise ValueError(f"/proc/stat knows no core {cpu}")


def parse(text: str) -> list[Sample]:
    """Whole lines of what a sampling process wrote."""
    samples = []
    for line in text.splitlines():
        word = line.split()
        if len(word) == 4 and word[3] == ".":
            samples.append(Sample(float(word[0]), float(word[1]), int(word[2])))
    return samples


def loop_us(cores: list[list[Sample]], begin: float, end: float) -> float | None:
    """What the loop took between two times; nothing if no core was sampled then."""
    total = weight = 0.0
    for samples in cores:
        inside = [sample for sample in samples if begin <= sample.when <= end]
        if len(inside) < 2:
            continue
        # A core that did nothing counts a little, so that there is a mean at all.
        busy = inside[-1].busy - inside[0].busy + 1
        total += busy * statistics.mean(sample.loop_us for sample in inside)
        weight += busy
    return total / weight if weight else None


class Pace:
    """Samples all cores this process may use, from its making until close()."""

    def __init__(self, folder: Path) -> None:
        self.paths: list[Path] = []
        self.processes: list[subprocess.Popen] = []
        for cpu in sorted(os.sched_getaffinity(0)):
            path = folder / f"pace.{cpu}"
            with open(path, "wb") as out:
                command = [sys.executable, "-S", "-E", str(Path(__file__).resolve()), str(cpu)]
                self.processes.append(subprocess.Popen(command, stdout=out))
            self.paths.append(path)

    def loop_us(self, begin: float, end: float) -> float | None:
        return loop_us([parse(path.read_text()) for path in self.paths], begin, end)

    def forget(self) -> None:
        """What was sampled so far is not asked for again."""
        for path in self.paths:
            os.truncate(path, 0)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()
        for path in self.paths:
            path.unlink(missing_ok=True)


def sample(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness ends this
    out = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_APPEND)
    stat = os.open("/proc/stat", os.O_RDONLY)
    parent = os.getppid()
    while os.getppid() == parent:
        x = 0
        for i in range(WARM_UP):
            x += i & 7
        start = time.thread_time_ns()
        for i in range(ITERATIONS):
            x += i & 7
        took = time.thread_time_ns() - start
        busy = busy_ticks(os.pread(stat, 65536, 0).decode(), cpu)
        os.write(out, f"{time.monotonic():.6f} {took / 1e3:.3f} {busy} .\n".encode())
        time.sleep(PAUSE)


if __name__ == "__main__":
    sample(int(sys.argv[1]))
