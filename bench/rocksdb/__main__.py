"""Compares stock db_bench on Basalt, ext4, xfs and in memory: `./dev bench rocksdb`.

The sides take turns on one block device (device.py), group of workloads by group (workloads.py), so
that what is compared was measured within a minute or so, in an order that changes each time. A turn
(turn.py) makes a fresh file system and runs its group in a memory-limited control group (cgroup.py),
measuring each benchmark on its own (measure.py).
Results are JSON lines (results.py), from which the report is written (report.py, targets.py,
chart.py).
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Callable

import machine
import options as command
import perf
import results
from cgroup import CgroupError
from device import BlockDevice, DeviceError, LoopDevice, refuse_used
from measure import BenchError
from pace import Pace
from report import Report
from results import Record, ResultsError
from sides import CHECKSUMS, Side, make_sides
from turn import Turn, say
from workloads import LABELS, make_groups

NEEDED = (
    "db_bench",
    "mkfs.ext4",
    "mkfs.xfs",
    "losetup",
    "lsblk",
    "findmnt",
    "wipefs",
    "blockdev",
    "mount",
    "umount",
)


class Refusal(Exception):
    pass


def built_programs(options: Namespace) -> list[Path]:
    return [options.build / "tool/basalt", options.build / "rocksdb_env/librocksdb_basalt.so"]


def programs(options: Namespace) -> dict[str, str]:
    return machine.fingerprint(
        [*built_programs(options), Path(shutil.which("db_bench") or "db_bench")]
    )


def check_machine(options: Namespace) -> None:
    if os.geteuid() != 0:
        raise Refusal("must run as root: it makes file systems, loop devices and control groups")
    needed = [*NEEDED, *(["perf"] if options.perf else [])]
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        raise Refusal(f"not installed: {', '.join(missing)}")
    if options.device is None and not Path("/dev/loop-control").exists():
        raise Refusal(
            "this machine has no loop devices (/dev/loop-control); give a block device "
            "with --device"
        )
    for path in built_programs(options):
        if {"basalt", CHECKSUMS} & set(options.sides) and not path.exists():
            raise Refusal(f"{path} is missing; build it first")


def lock_folder(folder: Path) -> int:
    """Two runs at once would measure each other. The lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Refusal(f"another run works in {folder}") from error
    return fd


def open_device(options: Namespace) -> BlockDevice:
    if options.device is not None:
        refuse_used(options.device, options.force)
        return BlockDevice(options.device)
    free = shutil.disk_usage(options.out).free
    if free < options.size + (1 << 30):
        raise Refusal(
            f"{options.out} has {free >> 20} MiB free; --size needs {options.size >> 20} "
            "and 1024 more"
        )
    say(f"writing a file of {options.size >> 20} MiB")
    return LoopDevice(options.out / "disk.img", options.size)


def earlier_results(options: Namespace, path: Path) -> list[Record]:
    """With --resume, the whole turns of an interrupted run; it must have had the same options."""
    if not options.resume or not path.exists():
        return []
    records = results.load(path)
    if records[0]["options"] != command.recorded(options):
        raise Refusal(f"--resume: {path} is of a run with other options: {records[0]['command']}")
    if records[0].get("programs") != programs(options):
        raise Refusal(f"--resume: {path} is of other programs: the build has changed since")
    results.rewrite(path, records)  # without a line that was cut off
    return records


def begin_results(options: Namespace, path: Path, device: BlockDevice) -> list[Record]:
    """Starts the file anew; the one before keeps its lines under another name."""
    tree = Path(__file__).resolve().parents[2]
    head = {
        "kind": "run",
        "options": command.recorded(options),
        "command": command.command_line(),
        "machine": machine.describe(tree),
        "device": device.describe(),
        "programs": programs(options),
        "load": machine.load_average(),
        "flags": command.flag_listing(options),
    }
    if path.exists():
        path.rename(path.with_suffix(".before.jsonl"))
    results.rewrite(path, [head])
    return [head]


def planned_turns(
    options: Namespace, all_sides: list[Side], device: BlockDevice, pace: Pace | None
) -> list[Turn]:
    """Round by round; within a round the sides of each group of workloads follow each other."""
    turns = []
    scale = command.make_scale(options)
    for number in range(options.rounds):
        for index, configuration in enumerate(command.configurations(options)):
            groups = make_groups(configuration, scale, set(options.only))
            for place, group in enumerate(groups):
                # Nobody follows the same neighbour every time; the same in every run.
                order = random.Random(f"{number} {index} {place}")
                for side in order.sample(all_sides, len(all_sides)):
                    turns.append(
                        Turn(
                            side,
                            configuration,
                            number + 1,
                            scale,
                            device,
                            group,
                            options.out / "logs",
                            pace,
                        )
                    )
    return turns


def rewrite_between_rounds(turn: Turn, before: Turn | None) -> None:
    """No side meets holes or trimmed blocks, nor what another configuration has left behind."""
    if before is None or (turn.round, turn.configuration) != (before.round, before.configuration):
        turn.device.rewrite()


def measure_all(options: Namespace, turns: list[Turn], path: Path, records: list[Record]) -> None:
    done = {results.turn_key(r) for r in records if r["kind"] == "turn"}
    left = [
        turn
        for turn in turns
        if (turn.configuration.name, turn.round, turn.group.name, turn.side.name) not in done
    ]
    before: Turn | None = None
    start = time.monotonic()
    for number, turn in enumerate(left):
        spent = time.monotonic() - start
        rest = (
            f", about {spent / number * (len(left) - number) / 60:.0f} min left" if number else ""
        )
        say(
            f"round {turn.round} of {options.rounds}, {turn.configuration.name}, "
            f"{turn.group.name}, {turn.side.name} (turn {number + 1} of {len(left)}{rest})"
        )
        rewrite_between_rounds(turn, before)
        before = turn
        record, failures = turn.run()
        for failure in failures:
            results.append(path, failure)
        results.append(path, record)
        Report(results.load(path), options.out).write()


def profile_all(
    options: Namespace, all_sides: list[Side], device: BlockDevice, path: Path
) -> None:
    """Every configuration and side; the memory side has no file system to look into."""
    scale = command.make_scale(options)
    for configuration in command.configurations(options):
        for label in options.perf:
            group = make_groups(configuration, scale, {label})[0]
            device.rewrite()
            for side in (one for one in all_sides if one.on_device):
                say(f"profiling {label}, {configuration.name}, {side.name}")
                turn = Turn(side, configuration, 0, scale, device, group, options.out / "logs")
                record = perf.profile(turn, label, options.out)
                results.append(path, record)
                show_profile(record)


def show_profile(record: Record) -> None:
    print(
        f"\n{record['label']}, {record['configuration']}, {record['side']}: {record['samples']} "
        f"samples, {record['busy']} busy"
    )
    for title in ("libraries", "functions"):
        print(f"  {title}")
        for *names, share in record[title]:
            print(f"    {share:>7}  {' '.join(names)}")


def run(options: Namespace) -> None:
    path = options.out / "results.jsonl"
    if options.report_only:
        print(Report(results.load(path), options.out).write())
        return
    check_machine(options)
    lock = lock_folder(options.out)
    (options.out / "logs").mkdir(exist_ok=True)
    device: BlockDevice | None = None
    pace: Pace | None = None
    earlier = earlier_results(options, path)
    all_sides = make_sides(options.sides, options.build, options.cache, options.discard)
    if (load := machine.load_average()) > 0.5:
        say(f"the machine is busy (load {load:.1f}): the figures will be noise")
    try:
        device = open_device(options)
        if options.perf:
            if not path.exists():
                begin_results(options, path, device)
            profile_all(options, all_sides, device, path)
        else:
            records = earlier or begin_results(options, path, device)
            pace = Pace(options.out)
            measure_all(options, planned_turns(options, all_sides, device, pace), path, records)
        print(Report(results.load(path), options.out).write())
    finally:
        # A second interrupt must not leave a mount behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        held = [*all_sides, *(one for one in (pace, device) if one is not None)]
        undo([one.close for one in held])
        os.close(lock)


def undo(steps: list[Callable[[], None]]) -> None:
    """All of them, even if one fails."""
    for step in steps:
        try:
            step()
        except (DeviceError, OSError) as error:
            say(f"bench: cleaning up: {error}")


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    options = command.parse(sys.argv[1:])
    if options.list:
        for label, text in LABELS.items():
            print(f"{label:24} {text}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        run(options)
    except KeyboardInterrupt:
        say("interrupted; --resume goes on after the last whole turn")
        return 130
    except (Refusal, BenchError, DeviceError, CgroupError, ResultsError) as error:
        say(f"bench: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
