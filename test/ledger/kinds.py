"""The kinds of long runs: what each has to reach, and the sources a run of it speaks for.

A run counts only as long as none of its sources has changed. The sources are git pathspecs: what the
program under test is made of as far as the run looks at it, and the program that looks.
"""

from __future__ import annotations

from dataclasses import dataclass

# What every target is linked from.
BASE = ("include", "src/base")
STORE = (*BASE, "src/mem", ":(glob)src/bdev/*", "src/blob", "blobfs", "test/sim", "test/crash")


@dataclass(frozen=True)
class Kind:
    name: str
    counts: str  # what adds up: "seconds", or the name of one of the run's counts
    target: int
    sources: tuple[str, ...]


def fuzz(entry: str, *sources: str) -> Kind:
    """A libFuzzer entry, test/fuzz/<entry>_fuzz.cc: fifteen minutes without a finding."""
    return Kind(f"fuzz/{entry}", "seconds", 15 * 60, (f"test/fuzz/{entry}_fuzz.cc", *sources))


KINDS = {
    kind.name: kind
    for kind in (
        fuzz("uri", *BASE, "src/bdev/uri.*", "src/bdev/uri_options.cc"),
        fuzz("pmem_journal", *BASE, "src/bdev/io_cursor.h", "src/bdev/pmem/format.h",
             "src/bdev/pmem/write_journal.*"),
        fuzz("superblock", *BASE, "src/blob/superblock.*", "src/blob/format.h"),
        fuzz("journal_record", *BASE, "src/blob/journal.*", "src/blob/format.h"),
        fuzz("metadata_page", *BASE, "src/blob/node.*", "src/blob/format.h"),
        fuzz("names", *BASE, "blobfs/inode.*", "blobfs/path.*"),
        fuzz("log_block", *BASE, "blobfs/log_format.h", "blobfs/log_reader.*"),
        fuzz("tail", *BASE, "blobfs/tail_format.h", "blobfs/tail_replay.*", "blobfs/shared_tail.*"),
        fuzz("vfio_user", *BASE, "nvme/vfio_user/protocol.*"),
        fuzz("nvme_tcp", *BASE, "src/wire/nvme/tcp_pdu.*", "nvme/commands.h",
             "nvme/tcp/tcp_queue.*", "nvme/tcp/tcp_events.*"),
        fuzz("nvme_tls", *BASE, "src/wire/nvme/auth/key_text.*", "src/wire/nvme/auth/tls_key.*",
             "src/wire/nvme/tls/offered_identities.*"),
        fuzz("nvmf_tcp", *BASE, "src/reactor", "src/wire/nvme", "targets/nvmf"),
        fuzz("nvmf_authentication", *BASE, "src/wire/nvme/auth", "targets/nvmf/authentication.*"),
        fuzz("nvmf_reservations", *BASE, "src/wire/nvme", "targets/nvmf/reservation_state.*",
             "targets/nvmf/reservation_record.cc"),
        fuzz("rpc", *BASE, "targets/rpc"),
        fuzz("store_image", *STORE),
        # Distinct states in which power loss leaves the disk (test/crash/every_state_test.cc).
        Kind("crash", "distinct", 2_000_000, STORE),
        # An hour of kill -9, and an hour of power loss on the simulated disk (test/system/stress).
        # Without the NVMe driver's and the targets' side of src, which they do not link.
        Kind("stress", "seconds", 60 * 60, ("include", "src", ":(exclude)src/wire",
                                            ":(exclude)src/reactor", ":(exclude)src/bdev/nvme", "blobfs", "rocksdb_env",
                                            "test/sim", "test/system/stress")),
        Kind("stress_power", "seconds", 60 * 60, (*STORE, "rocksdb_env", "test/system/stress")),
    )
}
