"""The block device all sides take turns on: a loop device over a written file, or a given device.

Every block is rewritten before each round (`rewrite`), so no side meets holes or trimmed blocks.
Discards are left out by the sides themselves, not by the device's queue: Linux 6.18 cannot switch
them on again there (the granularity becomes 0).

The module also measures the device itself: `write_and_flush_us` is one 4 KiB write and one flush at
depth 1, the least any file system can take for a durable append; `DeviceStat` are the kernel's own
counters.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CHUNK = 4 << 20
SECTOR = 512


class DeviceError(Exception):
    pass


def run_tool(command: list[str]) -> str:
    """The output of a command; an error with its words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise DeviceError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise DeviceError(
            f"{' '.join(command)}: status {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done.stdout.strip()


@dataclass(frozen=True)
class DeviceStat:
    """Counters of /sys/class/block/NAME/stat since the machine started."""

    reads: int
    read_bytes: int
    writes: int
    written_bytes: int
    flushes: int
    discards: int
    queue_ms: int  # one for each millisecond each request was in flight

    def minus(self, earlier: "DeviceStat") -> "DeviceStat":
        now, then = dataclasses.astuple(self), dataclasses.astuple(earlier)
        return DeviceStat(*(a - b for a, b in zip(now, then)))


def parse_stat(text: str) -> DeviceStat:
    field = [int(word) for word in text.split()]
    discards = field[11] if len(field) > 11 else 0
    flushes = field[15] if len(field) > 15 else 0
    return DeviceStat(
        field[0], field[2] * SECTOR, field[4], field[6] * SECTOR, flushes, discards, field[10]
    )


def aligned_buffer(size: int) -> mmap.mmap:
    """Page-aligned, as O_DIRECT asks, with bytes no device can guess or compress."""
    buffer = mmap.mmap(-1, size)
    buffer.write(os.urandom(size))
    return buffer


def write_in_full(path: Path, size: int) -> None:
    """Writes `size` bytes past the page cache and flushes them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    buffer = aligned_buffer(CHUNK)
    try:
        for offset in range(0, size, CHUNK):
            length = min(CHUNK, size - offset)
            written = os.pwrite(fd, memoryview(buffer)[:length], offset)
            if written != length:
                raise DeviceError(f"{path}: wrote {written} of {length} B at {offset}")
        os.fdatasync(fd)
    except OSError as error:
        raise DeviceError(f"{path}: writing {size} B: {error.strerror}") from error
    finally:
        os.close(fd)


class BlockDevice:
    """`close` gives back what the constructor took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = os.path.basename(os.path.realpath(path))
        self.stat_path = Path("/sys/class/block") / self.name / "stat"
        if not self.stat_path.exists():
            raise DeviceError(f"{path}: there is no {self.stat_path}; is this a block device?")
        self.size = int(run_tool(["blockdev", "--getsize64", str(path)])) // 4096 * 4096

    def describe(self) -> str:
        return f"{self.path}, {self.size / (1 << 30):.1f} GiB"

    def rewrite(self) -> None:
        write_in_full(self.path, self.size)

    def stat(self) -> DeviceStat:
        return parse_stat(self.stat_path.read_text())

    def write_and_flush_us(self, count: int) -> float:
        """Median time of one 4 KiB O_DIRECT pwrite and one fdatasync, positions ascending."""
        fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        buffer = aligned_buffer(4096)
        took = []
        try:
            for i in range(count):
                start = time.perf_counter_ns()
                os.pwrite(fd, buffer, i * 4096 % self.size)
                os.fdatasync(fd)
                took.append(time.perf_counter_ns() - start)
        finally:
            os.close(fd)
        return statistics.median(took) / 1e3

    def close(self) -> None:
        """A device that was given needs nothing."""


class LoopDevice(BlockDevice):
    """A loop device with direct I/O over a file that is written in full."""

    def __init__(self, backing: Path, size: int) -> None:
        self.backing = backing
        self.loop = ""
        write_in_full(backing, size)
        try:
            self.loop = run_tool(["losetup", "--find", "--show", "--direct-io=on", str(backing)])
        except DeviceError as error:
            backing.unlink(missing_ok=True)
            raise DeviceError(
                f"no loop device: {error}; give a block device with --device"
            ) from error
        try:
            super().__init__(Path(self.loop))
            dio = Path("/sys/block") / self.name / "loop/dio"
            if dio.read_text().strip() != "1":
                raise DeviceError(f"{self.loop}: the kernel refused direct I/O on {backing}")
        except DeviceError:
            self.close()
            raise

    def describe(self) -> str:
        where = run_tool(["findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", "-T", str(self.backing)])
        return (
            f"loop device with direct I/O over a fully written file of "
            f"{self.size / (1 << 30):.1f} GiB on {' '.join(where.split())}"
        )

    def close(self) -> None:
        if self.loop:
            run_tool(["losetup", "--detach", self.loop])
            self.loop = ""
        self.backing.unlink(missing_ok=True)


def refuse_used(path: Path, force: bool) -> None:
    """Everything on the device will be lost: it must be free, and hold nothing unless forced."""
    if not path.is_block_device():
        raise DeviceError(f"{path} is not a block device")
    tree = run_tool(["lsblk", "-nro", "NAME,MOUNTPOINTS,FSTYPE", str(path)]).splitlines()
    mounted = run_tool(["lsblk", "-nro", "MOUNTPOINTS", str(path)]).split()
    if mounted:
        raise DeviceError(f"{path} is in use: mounted on {', '.join(mounted)}")
    if len(tree) > 1:
        raise DeviceError(f"{path} has partitions or holders: {'; '.join(tree[1:])}")
    name = os.path.basename(os.path.realpath(path))
    holders = list((Path("/sys/class/block") / name / "holders").iterdir())
    if holders:
        raise DeviceError(f"{path} is held by {', '.join(h.name for h in holders)}")
    known = run_tool(["wipefs", "--noheadings", "--output", "TYPE", str(path)]).split()
    with open(path, "rb") as opened:
        if opened.read(16).startswith(b"BASALT"):
            known.append("basalt")
    if known and not force:
        raise DeviceError(
            f"{path} holds {', '.join(known)}; everything on it would be lost "
            "(--force goes ahead)"
        )
