"""What is run: db_bench's benchmarks, in groups that share one database.

A group starts from an empty database and is a list of steps; a step is one db_bench process that
runs several benchmarks. Caches are dropped before each step, so the first benchmark of a step meets
cold data and the later ones warm data. RocksDB's MemoryFileSystem dies with its process: there the
steps of a group are joined into one process, and steps whose flags differ are left out.

A benchmark with a label is reported under it; one without prepares or settles the state. What takes less
than a second or two is run several times in a turn, and counts as one (turn.py). Settling
is a full compaction, not db_bench's waitforcompaction: that one sleeps in units of five and ten
seconds and leaves a tree whose shape depends on who was faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 << 20
KEY_BYTES = 16

# RocksDB's defaults. Where nothing is written for long, or a compaction is to have many files, the
# harness takes smaller ones, in proportion to its data.
ROCKSDB_SIZES = {
    "write_buffer_size": 64 * MIB,
    "target_file_size_base": 64 * MIB,
    "max_bytes_for_level_base": 256 * MIB,
}

# The model of a social graph's keys and values that mixgraph's authors publish with it.
MIXGRAPH = {
    "key_dist_a": 0.002312,
    "key_dist_b": 0.3467,
    "keyrange_dist_a": 14.18,
    "keyrange_dist_b": -2.917,
    "keyrange_dist_c": 0.0164,
    "keyrange_dist_d": -0.08082,
    "keyrange_num": 30,
    "value_k": 0.2615,
    "value_sigma": 25.45,
    "iter_k": 2.517,
    "iter_sigma": 14.236,
    "mix_get_ratio": 0.83,
    "mix_put_ratio": 0.14,
    "mix_seek_ratio": 0.03,
}


@dataclass(frozen=True)
class Configuration:
    """One size of values with one compression."""

    value_bytes: int
    compression: str

    @property
    def name(self) -> str:
        return f"{self.value_bytes}B-{self.compression}"


LARGEST = Configuration(1024, "none")


@dataclass(frozen=True)
class Scale:
    """How much is done. `factor` shrinks everything for trials."""

    factor: float
    memory_bytes: int

    def keys(self, configuration: Configuration) -> int:
        """Of the databases that fit in the cache: about 250 MiB, or 110 MiB of small values."""
        keys = 250_000 if configuration.value_bytes >= 512 else 1_000_000
        return max(2000, int(keys * self.factor))

    @property
    def seconds(self) -> int:
        return max(1, round(3 * self.factor))

    @property
    def direct_memory_bytes(self) -> int:
        """The limit of the group that reads directly; its data is four times as large."""
        return self.memory_bytes // 8

    def direct_keys(self, configuration: Configuration) -> int:
        stored = configuration.value_bytes / (1 if configuration.compression == "none" else 2)
        wanted = 4.2 * self.direct_memory_bytes * min(1.0, self.factor)
        return int(wanted / (stored + KEY_BYTES))


@dataclass(frozen=True)
class Benchmark:
    name: str
    label: str | None = None
    # A thread writes beside those whose operations are counted: how much is asked of RocksDB.
    counts_writes: bool = False

    def words(self) -> list[str]:
        """What db_bench is told to run. Its "stats" says what was written since the last."""
        return ["stats", self.name, "stats"] if self.counts_writes else [self.name]


@dataclass(frozen=True)
class Step:
    benchmarks: tuple[Benchmark, ...]
    flags: Mapping[str, object]
    in_memory: bool = True  # can be joined with the steps before it

    def labels(self) -> set[str]:
        return {b.label for b in self.benchmarks if b.label}


@dataclass(frozen=True)
class Group:
    name: str
    steps: tuple[Step, ...]
    direct: bool = False  # reads go past every cache; Basalt's is off, the memory limit is small

    def labels(self) -> set[str]:
        return set().union(*(step.labels() for step in self.steps))

    def joined(self) -> "Group":
        """The group as one process."""
        steps = [step for step in self.steps if step.in_memory]
        benchmarks = tuple(b for step in steps for b in step.benchmarks)
        flags = {name: value for step in steps for name, value in step.flags.items()}
        return dataclasses.replace(self, steps=(Step(benchmarks, flags),))


# label → what it is, for the report; the order is the report's.
LABELS = {
    "fillsync-1": "every write synced, 1 thread",
    "fillsync-8": "every write synced, 8 threads",
    "fillseq": "load in key order",
    "fillrandom": "load in random order",
    "overwrite": "random writes over a loaded, compacted database",
    "updaterandom": "read, change, write back",
    "deleterandom": "random deletes",
    "compact": "full compaction of a random load that was only flushed",
    "readseq": "scan of everything with cold caches",
    "readseq-cached": "the same scan again",
    "readrandom": "random reads, everything in the cache",
    "seekrandom": "random seek and 10 nexts, everything in the cache",
    "readwhilewriting": "random reads beside a writer at full speed",
    "readwhilewriting-10M": "random reads beside a writer held to 10 MB/s",
    "readwhilewriting-50M": "random reads beside a writer held to 50 MB/s",
    "readwhilewriting-small": "the first, with memtables and files of 16 MiB: compaction cannot keep up",
    "mix-95": "95 % reads, 5 % writes, as YCSB B but of uniform keys",
    "mix-50": "half reads, half writes, as YCSB A but of uniform keys",
    "mixgraph": "db_bench's mixgraph: skewed keys, 83 % get, 14 % put of some 35 B, 3 % scan",
    "readrandom-direct-1": "random direct reads, 1 thread",
    "readrandom-direct-16": "random direct reads, 16 threads",
    "multireadrandom-direct": "MultiGet of 32 random keys, direct reads",
}


# The device's latency sets their speed, not the cores'.
DEVICE_BOUND = {
    "fillsync-1",
    "fillsync-8",
    "readrandom-direct-1",
    "readrandom-direct-16",
    "multireadrandom-direct",
}


def common_flags(configuration: Configuration) -> dict[str, object]:
    """On every side of every workload."""
    return {
        "value_size": configuration.value_bytes,
        "compression_type": configuration.compression,
        "cache_size": 8 * MIB,
        "write_buffer_size": 16 * MIB,
        "target_file_size_base": 16 * MIB,
        "max_bytes_for_level_base": 64 * MIB,
        "histogram": 1,
        "seed": 17,
    }


def _sync_groups(scale: Scale) -> list[Group]:
    # fillsync divides --num by 1000 for the range of its keys; --writes counts the operations.
    def group(threads: int, writes: int) -> Group:
        label = f"fillsync-{threads}"
        flags = {
            "num": 1_000_000,
            "threads": threads,
            "writes": max(200, int(writes * scale.factor)),
        }
        return Group(label, (Step((Benchmark("fillsync", label),), flags),))

    return [group(1, 24000), group(8, 9000)]


def _write_groups(configuration: Configuration, scale: Scale) -> list[Group]:
    keys = scale.keys(configuration)
    # What reads before it writes takes its count from --reads.
    updates = min(keys, scale.keys(LARGEST))
    settle = Benchmark("compact")
    # Each load begins with an empty database.
    loads = (Benchmark("fillseq", "fillseq"), Benchmark("fillrandom", "fillrandom"))
    chain = (
        *loads,
        *loads,
        settle,
        *(Benchmark("overwrite", "overwrite"), settle) * 2,
        Benchmark("updaterandom", "updaterandom"),
        settle,
        Benchmark("readrandomwriterandom", "mix-50"),
        settle,
        Benchmark("deleterandom", "deleterandom"),
        settle,
    )
    only_flushed = {
        "num": keys,
        "disable_auto_compactions": 1,
        "level0_file_num_compaction_trigger": 1000,
        "level0_slowdown_writes_trigger": 1000,
        "level0_stop_writes_trigger": 1000,
    }
    return [
        Group("write", (Step(chain, {"num": keys, "reads": updates, "readwritepercent": 50}),)),
        Group(
            "compact",
            (Step((Benchmark("fillrandom"), Benchmark("compact", "compact")) * 4, only_flushed),),
        ),
    ]


def _cached_groups(configuration: Configuration, scale: Scale) -> list[Group]:
    flags: dict[str, object] = {
        "num": scale.keys(configuration),
        "seek_nexts": 10,
        "readwritepercent": 95,
        "duration": scale.seconds,
        **MIXGRAPH,
    }
    small = dict(flags)
    flags |= ROCKSDB_SIZES
    load = (Benchmark("filluniquerandom"), Benchmark("compact"))
    cold = Step((Benchmark("readseq", "readseq"),), flags)
    reads = (
        Benchmark("readseq", "readseq"),
        *(Benchmark("readseq", "readseq-cached"),) * 8,
        Benchmark("readrandom", "readrandom"),
        Benchmark("seekrandom", "seekrandom"),
        Benchmark("readrandomwriterandom", "mix-95"),
        Benchmark("mixgraph", "mixgraph"),
        Benchmark("compact"),
    )
    full_speed = (
        Benchmark("readseq"),
        *(
            Benchmark("readwhilewriting", "readwhilewriting", counts_writes=True),
            Benchmark("compact"),
        )
        * 2,
    )

    def limited(megabytes: int) -> Step:
        benchmarks = (
            Benchmark("readseq"),
            Benchmark("readwhilewriting", f"readwhilewriting-{megabytes}M", counts_writes=True),
            Benchmark("compact"),
        )
        rate = {"benchmark_write_rate_limit": megabytes * 1_000_000}
        return Step(benchmarks, flags | rate, in_memory=False)

    starved = (
        Benchmark("readseq"),
        Benchmark("readwhilewriting", "readwhilewriting-small", counts_writes=True),
    )
    return [
        Group("cached", (Step(load, flags), cold, cold, Step(reads, flags))),
        Group(
            "beside",
            (
                Step(load, flags),
                Step(full_speed, flags),
                limited(10),
                limited(50),
                Step(starved, small, in_memory=False),
            ),
        ),
    ]


def _direct_group(configuration: Configuration, scale: Scale) -> Group:
    flags: dict[str, object] = {
        "num": scale.direct_keys(configuration),
        "duration": scale.seconds,
        "use_direct_reads": 1,
        "batch_size": 32,
        "multiread_batched": 1,
        # RocksDB's default: a batch that meets one file in 32 would never be deeper than one.
        "target_file_size_base": 64 * MIB,
    }
    reads = (
        Benchmark("readrandom", "readrandom-direct-1"),
        Benchmark("multireadrandom", "multireadrandom-direct"),
    )
    # Sixteen threads on few cores scatter by a tenth from one run to the next.
    deep = (Benchmark("readrandom", "readrandom-direct-16"),) * 3
    return Group(
        "direct",
        (
            Step((Benchmark("filluniquerandom"), Benchmark("compact")), flags),
            Step(reads, flags),
            Step(deep, flags | {"threads": 16}, in_memory=False),
        ),
        direct=True,
    )


def make_groups(configuration: Configuration, scale: Scale, only: set[str]) -> list[Group]:
    """The groups that hold a label of `only` (all labels when it is empty), cut after its last."""
    groups = [
        *_sync_groups(scale),
        *_write_groups(configuration, scale),
        *_cached_groups(configuration, scale),
        _direct_group(configuration, scale),
    ]
    if not only:
        return groups
    return [cut(group, only) for group in groups if group.labels() & only]


def cut(group: Group, only: set[str]) -> Group:
    """Without what is measured after the last wanted benchmark; unwanted ones lose their label. What settles the
    state stays: the next step begins with it."""
    steps: list[Step] = []
    for step in group.steps:
        wanted = [i for i, b in enumerate(step.benchmarks) if b.label in only]
        prepares = not step.labels() and not steps
        if not wanted and not prepares:
            continue
        end = len(step.benchmarks) if prepares else wanted[-1] + 1
        settling = tuple(b for b in step.benchmarks[end:] if b.label is None)[:1]
        kept = step.benchmarks[:end] + settling
        benchmarks = tuple(
            b if b.label in only else dataclasses.replace(b, label=None) for b in kept
        )
        steps.append(dataclasses.replace(step, benchmarks=benchmarks))
    return dataclasses.replace(group, steps=tuple(steps))


def flag_words(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
