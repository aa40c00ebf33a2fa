"""The part of the report that says exactly what was measured, and how."""

from __future__ import annotations

from results import Record
from sides import CHECKSUMS
from workloads import LABELS, MIB

METHOD = (
    "The sides take turns on the same device, group of workloads by group and round by round, in an "
    "order that changes each time: what is compared was measured within a minute or so. Each turn "
    "begins with a new file system. Every block of the device is rewritten before each round of a "
    "configuration. "
    "ext4 and xfs have their journals and default mount options.",
    "Before each db_bench process: sync, and all caches of the kernel dropped. The flags of "
    "db_bench are the same on all sides. Lines of one group below are processes that follow each "
    "other on one database; all but the first of them also have --use_existing_db=1.",
    "memory is RocksDB's own MemoryFileSystem: no device, no memory limit; it is the ceiling of "
    "what a file system can give. It loses its files with its process, so the processes of a group "
    "are joined into one, and what needs other flags than those before it is left out.",
    "Counters are read when db_bench says a benchmark begins and when it prints its result. Work "
    "that is put off (write-back, compaction) falls into the settling compaction after it, which "
    "is not part of operations per second; the tables that say so include it.",
    "CPU of the whole machine is all busy time of /proc/stat, so it also has write-back, journal "
    "and loop threads; it is only honest on an otherwise idle machine.",
    "The cores' speed changes by half within seconds where others compute on the same hardware, and "
    "no counter tells. A fixed loop is timed on each core twenty times a second, in CPU time (3 % "
    "of a core). What it took during a benchmark over its median of the whole run, to the power that fits the "
    "differences between the rounds best, is the slowness. "
    "Operations per second are multiplied by it where the cores and not the device set them, CPU "
    "time is divided by it; both are also there as measured. Latencies are as measured.",
    "A host may stop all cores at once when the machine, and what emulates its devices, have used up "
    "their share of its processors; the kernel counts it as stolen time. It is reported, and nothing "
    "is corrected for it.",
    "A raw write and flush is a pwrite of 4 KiB with O_DIRECT and an fdatasync on the device "
    "itself, at ascending positions, timed one by one from Python (about 1 µs of it); the median "
    "of 2000 before each turn. fillsync-1 is compared with the median of those before its own turns.",
    "Queue depth is the kernel's time of requests in flight over the time that passed.",
    "A workload meets its target if its throughput does, over ext4 and over xfs, and the CPU time "
    "of the whole machine per operation is below ext4's; where a target of throughput is above "
    "95 % of what the ceiling does, those 95 % are the target, but never less than 1. That holds "
    "for the writes, scans, compaction, readwhilewriting and cached readrandom; synced writes and "
    "direct reads have no ceiling.",
    "What takes less than a second or two is run several times in a turn (the flags below show how "
    "often) and counts as one: operations and times are added up, a latency is the median of the "
    "parts'.",
    "Debian's librocksdb has assertions on, which is CPU time on all sides, computes CRC32C in "
    "software, and has no io_uring: on ext4 and xfs a batch of reads is one after the other, where "
    "Basalt has a ring of its own.",
    "What a benchmark leaves behind is settled, and counted as settling, only where a compaction "
    "follows it; mixgraph's holds mix-95's leavings too.",
)


def lines(run: Record, power: float) -> list[str]:
    """`power`: results.pace_power()."""
    options = run["options"]
    limit, direct = options["memory"] // MIB, options["direct_memory"] // MIB
    quarter = ", a quarter of their data" if options["scale"] >= 1 else ""
    text = [
        "## What was measured",
        "",
        f"- Command line: `{run['command']}`",
        f"- Every process but the ceiling's ran in a control group limited to {limit} MiB, those "
        f"that read directly to {direct} MiB{quarter}. Basalt's page cache of "
        f"{options['cache'] // MIB} MiB is inside the limit, and is 0 for direct reads.",
    ]
    if options["scale"] < 1:
        text.append(
            f"- This is a trial at {options['scale']:g} of the usual amount: the data read "
            "directly is not four times the limit, and the figures are not to be quoted."
        )
    if options.get("discard"):
        text.append(
            "- Freed space is discarded on all sides: ext4 and xfs have the mount option discard, "
            "Basalt discard=1."
        )
    else:
        text.append("- No side discards freed space.")
    text += [f"- {line}" for line in METHOD]
    text.append(f"- In this run, work followed the fixed loop by the power {power:.2f}.")
    if CHECKSUMS in options["sides"]:
        text.append(
            f"- {CHECKSUMS} is a store made with --checksums: every read of a table from the device is "
            "verified, and every write of one has its checksums computed and kept."
        )
    text += ["", "Workloads:", ""]
    text += [f"- {label}: {meaning}" for label, meaning in LABELS.items()]
    text += ["", "Flags of all processes, per configuration and group:", ""]
    return [*text, *(f"    {words}" for words in run["flags"]), ""]
