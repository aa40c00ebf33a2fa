"""A control group that bounds the memory of one db_bench process and counts its CPU time.

Version 1 (memory and cpuacct hierarchies) and version 2 (one hierarchy) are both served. A process
gets in by writing its own id before it executes db_bench (`entering`), so nothing it ever allocates
escapes. The group counts what its own threads use; work the kernel does for it elsewhere
(write-back, loop threads) is not in `cpu_seconds`, and is why measure.py reads the whole machine as
well.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class CgroupError(Exception):
    pass


def _write(path: Path, value: object) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise CgroupError(f'{path}: cannot write "{value}": {error.strerror}') from error


class Cgroup:
    """Created empty; `close` removes it once its processes have ended."""

    def __init__(self, name: str, memory_bytes: int | None) -> None:
        self.v2 = (ROOT / "cgroup.controllers").exists()
        self.paths = self._make(name)
        try:
            self._limit(memory_bytes)
        except CgroupError:
            self.close()
            raise

    def _make(self, name: str) -> list[Path]:
        if self.v2:
            available = (ROOT / "cgroup.controllers").read_text().split()
            if "memory" not in available:
                raise CgroupError(f"{ROOT}: the memory controller is not available")
            _write(ROOT / "cgroup.subtree_control", "+memory +cpu")
            paths = [ROOT / name]
        else:
            paths = [ROOT / "memory" / name, ROOT / "cpuacct" / name]
        for path in paths:
            if not path.parent.is_dir():
                raise CgroupError(f"{path.parent} is missing: is this hierarchy mounted?")
            try:
                path.mkdir(exist_ok=True)
            except OSError as error:
                raise CgroupError(f"{path}: {error.strerror}") from error
        return paths

    def _limit(self, memory_bytes: int | None) -> None:
        memory = self.paths[0]
        if self.v2:
            _write(memory / "memory.max", "max" if memory_bytes is None else memory_bytes)
        else:
            _write(memory / "memory.limit_in_bytes", -1 if memory_bytes is None else memory_bytes)

    def entering(self, command: list[str]) -> list[str]:
        """`command`, started inside the group."""
        enter = "".join(f"echo $$ >'{path}/cgroup.procs' && " for path in self.paths)
        return ["/bin/sh", "-c", enter + 'exec "$@"', "sh", *command]

    def cpu_seconds(self) -> float:
        if not self.v2:
            return int((self.paths[1] / "cpuacct.usage").read_text()) / 1e9
        for line in (self.paths[0] / "cpu.stat").read_text().splitlines():
            name, value = line.split()
            if name == "usage_usec":
                return int(value) / 1e6
        raise CgroupError(f"{self.paths[0]}/cpu.stat has no usage_usec")

    def peak_bytes(self) -> int:
        """The most memory ever charged, page cache included; 0 where the kernel does not say."""
        name = "memory.peak" if self.v2 else "memory.max_usage_in_bytes"
        path = self.paths[0] / name
        return int(path.read_text()) if path.exists() else 0

    def close(self) -> None:
        for path in self.paths:
            # What is still charged here (page cache) moves to the parent.
            if not self.v2 and (path / "memory.force_empty").exists():
                try:
                    (path / "memory.force_empty").write_text("0\n")
                except OSError:
                    pass
            _remove(path)


def _remove(path: Path) -> None:
    """A killed process leaves its group a moment after it was waited for."""
    for _ in range(100):
        if not path.is_dir():
            return
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise CgroupError(f"{path}: {error.strerror}") from error
            time.sleep(0.05)
    raise CgroupError(f"{path} still has processes after 5 s")
