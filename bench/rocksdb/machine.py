"""Describes the machine and the programs, for the head of the report."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path


def _first_line(command: list[str]) -> str:
    """Of either stream; programs differ in where they print their version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return "not installed"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _setting(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def fingerprint(paths: list[Path]) -> dict[str, str]:
    """What was run, by content: a source tree says nothing about what was built from it."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in paths if p.exists()}


def _revision(tree: Path) -> str:
    revision = _first_line(["git", "-C", str(tree), "describe", "--always", "--dirty"])
    return "unknown" if revision.startswith("fatal") else revision


def describe(tree: Path) -> dict[str, str]:
    memory_kib = int(_field("/proc/meminfo", "MemTotal").split()[0])
    return {
        "CPU": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{memory_kib / (1 << 20):.1f} GiB",
        "kernel": platform.release(),
        "system": _field_of_release(),
        "RocksDB": _first_line(["db_bench", "--version"]),
        "ext4 tools": _first_line(["mkfs.ext4", "-V"]),
        "xfs tools": _first_line(["mkfs.xfs", "-V"]),
        "Basalt's source tree": _revision(tree),
        "control groups": "version 2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        "large pages": _setting("/sys/kernel/mm/transparent_hugepage/enabled"),
        "dirty pages": f"{_setting('/proc/sys/vm/dirty_background_ratio')} % written back, "
        f"{_setting('/proc/sys/vm/dirty_ratio')} % waited for",
    }


def _field_of_release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def load_average() -> float:
    return os.getloadavg()[0]
