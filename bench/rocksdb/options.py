"""The command line: what is measured, on what, and how much of it."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import sides
from workloads import LABELS, Configuration, Scale, common_flags, flag_words, make_groups

FULL = {"values": [100, 1024], "compression": ["none", "lz4"], "rounds": 3, "scale": 1.0}
QUICK = {"values": [1024], "compression": ["none"], "rounds": 1, "scale": 0.1}
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    digits, unit = text.upper().removesuffix("IB"), 1
    if digits and digits[-1] in UNITS:
        digits, unit = digits[:-1], UNITS[digits[-1]]
    try:
        return int(float(digits) * unit)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" is not a size such as 512M') from error


def _list_of(known: tuple[str, ...] | None):
    """A comma-separated list, of known words if any are given."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        strange = [word for word in words if known and word not in known]
        if strange or not words:
            raise argparse.ArgumentTypeError(
                f"\"{text}\" is not a list of: {', '.join(known or ())}"
            )
        return words

    return parse


def _sizes(text: str) -> list[int]:
    return [parse_size(word) for word in text.split(",")]


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev bench rocksdb",
        description="Stock db_bench on Basalt, ext4, xfs and RocksDB's file system in memory.",
    )
    add = parser.add_argument
    labels = tuple(LABELS)
    add("--build", type=Path, required=True, help=argparse.SUPPRESS)
    add("--out", type=Path, help="where the report goes (build/bench/rocksdb)")
    add("--device", type=Path, help="a block device to use, all of it, instead of a loop device")
    add("--force", action="store_true", help="even if --device holds something known")
    add("--size", type=parse_size, default=parse_size("3G"), help="of the loop device (3G)")
    add("--memory", type=parse_size, default=parse_size("1G"), help="limit of a process (1G)")
    add("--cache", type=parse_size, help="Basalt's page cache, within the limit (66 %% of it)")
    add("--rounds", type=int, help="turns of each side (3)")
    add("--values", type=_sizes, help="sizes of values (100,1K)")
    add("--compression", type=_list_of(None), help="kinds (none,lz4)")
    add(
        "--sides",
        type=_list_of(sides.NAMES),
        default=list(sides.USUAL),
        help=f"of {','.join(sides.NAMES)} (all but the last)",
    )
    add("--only", type=_list_of(labels), default=[], help="only these workloads (see --list)")
    add("--scale", type=float, help="share of the operations and seconds (1.0)")
    add("--quick", action="store_true", help="a trial: 1K, no compression, one round, a tenth")
    add("--resume", action="store_true", help="go on with an interrupted run of the same options")
    add("--report-only", action="store_true", help="write the report anew from the results")
    add(
        "--perf",
        type=_list_of(labels),
        metavar="WORKLOADS",
        help="profile these instead of measuring, on each of --sides but memory, and add that to the report",
    )
    add(
        "--discard",
        action="store_true",
        help="all sides discard freed space: ext4 and xfs by the mount option, Basalt by its own",
    )
    add("--list", action="store_true", help="list the workloads")
    options = parser.parse_args(words)
    usual = QUICK if options.quick else FULL
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.cache is None:
        options.cache = options.memory * 66 // 100 // (1 << 20) * (1 << 20)
    if options.cache > options.memory * 8 // 10:
        parser.error("--cache must leave a fifth of --memory to db_bench itself")
    if options.rounds < 1 or not 0 < options.scale <= 100:
        parser.error("--rounds must be at least 1, --scale between 0 and 100")
    if options.perf and options.sides == ["memory"]:
        parser.error("--perf profiles file systems; --sides has only memory")
    if options.memory < 256 << 20:
        parser.error("--memory must be at least 256M")
    options.out = (options.out or options.build.parent / "bench/rocksdb").resolve()
    return options


def configurations(options: argparse.Namespace) -> list[Configuration]:
    return [Configuration(value, kind) for value in options.values for kind in options.compression]


def make_scale(options: argparse.Namespace) -> Scale:
    return Scale(options.scale, options.memory)


def recorded(options: argparse.Namespace) -> dict[str, object]:
    """What must be the same for results to belong to one run."""
    return {
        "sides": options.sides,
        "configurations": [c.name for c in configurations(options)],
        "memory": options.memory,
        "cache": options.cache,
        "size": options.size,
        "device": str(options.device) if options.device else None,
        "only": options.only,
        "scale": options.scale,
        "discard": options.discard,
        "rounds": options.rounds,
        "direct_memory": make_scale(options).direct_memory_bytes,
    }


def command_line() -> str:
    words = sys.argv[1:]
    if "--build" in words:
        at = words.index("--build")
        words = words[:at] + words[at + 2 :]
    return shlex.join(["./dev", "bench", "rocksdb", *words])


def flag_listing(options: argparse.Namespace) -> list[str]:
    """One line per configuration and process, for the report."""
    lines = []
    scale = make_scale(options)
    for configuration in configurations(options):
        for group in make_groups(configuration, scale, set(options.only)):
            for step in group.steps:
                flags = common_flags(configuration) | dict(step.flags)
                names = ",".join(word for b in step.benchmarks for word in b.words())
                lines.append(
                    f"{configuration.name} {group.name}: --benchmarks={names} "
                    + " ".join(flag_words(flags))
                )
    return lines
