"""The sides that are compared: Basalt (and, when asked for, Basalt with data checksums), ext4, xfs, and RocksDB's
file system in memory.

A side's turn begins on a device all of whose blocks have been written: `prepare` makes a fresh file
system on it, `command` turns db_bench's flags into a command line, `finish` takes the file system
down. Mount options are the kernel's defaults (with discards, if they are what is measured), journals on; mkfs writes its tables in full, so that
no lazy initialisation runs during the measurement, and discards nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from device import BlockDevice, DeviceError, run_tool


CHECKSUMS = "basalt-checksums"


class Side:
    name = ""
    limited = True  # in a memory-limited control group
    on_device = True

    def prepare(self, device: BlockDevice) -> None:
        raise NotImplementedError

    def command(self, flags: list[str], direct: bool) -> list[str]:
        raise NotImplementedError

    def finish(self) -> str:
        """What a final check found wrong; empty if nothing."""
        return ""

    def close(self) -> None:
        """After a failure or an interrupt: whatever `prepare` did is undone."""


class BasaltSide(Side):
    """cache_bytes is Basalt's page cache, inside the limit; direct workloads run without one.
    discard: freed space is discarded, in the background. checksums: of data too, in the store."""

    def __init__(self, build: Path, cache_bytes: int, discard: bool, checksums: bool) -> None:
        self.name = CHECKSUMS if checksums else "basalt"
        self.mkfs = ["mkfs", "--force", *(["--checksums"] if checksums else [])]
        self.tool = str(build / "tool/basalt")
        self.plugin = str(build / "rocksdb_env/librocksdb_basalt.so")
        self.cache_bytes = cache_bytes
        self.discard = discard
        self.uri = ""
        self.made = False

    def prepare(self, device: BlockDevice) -> None:
        self.uri = f"file:{device.path}"
        run_tool([self.tool, *self.mkfs, self.uri])
        self.made = True

    def command(self, flags: list[str], direct: bool) -> list[str]:
        cache = "0" if direct else str(self.cache_bytes)
        return [
            self.tool,
            "run",
            f"{self.uri}?discard={int(self.discard)}",
            "--cache",
            cache,
            "--plugin",
            self.plugin,
            "--",
            "db_bench",
            "--db=/db",
            *flags,
        ]

    def finish(self) -> str:
        try:
            self.close()
            run_tool([self.tool, "check", self.uri])
        except DeviceError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Any change opens and closes the store, which also frees what a killed process kept of it
        in shared memory."""
        if self.made:
            self.made = False
            run_tool([self.tool, "mkdir", "--parents", f"{self.uri}?discard=0", "/end"])


class KernelSide(Side):
    def __init__(self, name: str, mkfs: list[str], discard: bool) -> None:
        self.name = name
        self.mkfs = mkfs
        self.options = ["-o", "discard"] if discard else []
        self.mount_point = ""
        self.mounted = False

    def prepare(self, device: BlockDevice) -> None:
        run_tool([*self.mkfs, str(device.path)])
        self.mount_point = tempfile.mkdtemp(prefix=f"bench-{self.name}-")
        run_tool(["mount", "-t", self.name, *self.options, str(device.path), self.mount_point])
        self.mounted = True

    def mount_options(self) -> str:
        return run_tool(["findmnt", "-no", "OPTIONS", self.mount_point])

    def command(self, flags: list[str], direct: bool) -> list[str]:
        return ["db_bench", f"--db={self.mount_point}/db", *flags]

    def finish(self) -> str:
        self.close()
        return ""

    def close(self) -> None:
        if self.mounted:
            run_tool(["umount", self.mount_point])
            self.mounted = False
        if self.mount_point:
            Path(self.mount_point).rmdir()
            self.mount_point = ""


class MemorySide(Side):
    """No device, no limit: what RocksDB itself can do on this machine when files cost nothing."""

    name = "memory"
    limited = False
    on_device = False

    def prepare(self, device: BlockDevice) -> None:
        pass

    def command(self, flags: list[str], direct: bool) -> list[str]:
        return ["db_bench", "--fs_uri=MemoryFileSystem", "--db=/db", *flags]


USUAL = ("basalt", "ext4", "xfs", "memory")
NAMES = (*USUAL, CHECKSUMS)


def make_sides(
    names: list[str], build: Path, cache_bytes: int, discard: bool = False
) -> list[Side]:
    made: dict[str, Side] = {
        "basalt": BasaltSide(build, cache_bytes, discard, checksums=False),
        CHECKSUMS: BasaltSide(build, cache_bytes, discard, checksums=True),
        "ext4": KernelSide(
            "ext4",
            ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
            discard,
        ),
        "xfs": KernelSide("xfs", ["mkfs.xfs", "-q", "-f", "-K"], discard),
        "memory": MemorySide(),
    }
    return [made[name] for name in names]
