#!/bin/bash
# Goal: RocksDB's stock tools work on a store, unmodified, with nothing but a preload.
# Method: db_bench, ldb and sst_dump as a user would call them, on a small store; each run must print
# the plugin's counters, since a tool that silently used the machine's own file system would pass too.
#
#   rocksdb_tools.sh <librocksdb_basalt.so> [number of keys]
set -uo pipefail

plugin=$(realpath "$1")
keys=${2:-20000}
for tool in db_bench ldb sst_dump; do
  command -v $tool > /dev/null || { echo "$tool is missing; on Debian: apt install rocksdb-tools"; exit 1; }
done
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit 1
store="basalt://file:$directory/store.img?create=2G&cache=64M"
uri="basalt://file:$directory/store.img"
db=/data/db    # in the store; no such directory exists outside
output=$directory/output
errors=$directory/errors

fail() {
  echo "FAILED: $1"
  tail -20 "$output" "$errors"
  exit 1
}

# run <title> <command…>: must succeed, and must have used a store. What it prints is in $output and
# $errors.
run() {
  local title=$1
  shift
  LD_PRELOAD=$plugin BASALT_STATS=1 "$@" > "$output" 2> "$errors" || fail "$title: exit status $?"
  grep -q '^basalt: .*device_reads=' "$errors" || fail "$title: the store was not used"
  echo "passed: $title"
}

# refuse <title> <expected words> <command…>: must fail with a sentence, not a signal.
refuse() {
  local title=$1 expected=$2
  shift 2
  LD_PRELOAD=$plugin "$@" > "$output" 2> "$errors"
  local status=$?
  [[ $status -ne 0 ]] || fail "$title: it went on"
  [[ $status -lt 128 ]] || fail "$title: killed by signal $((status - 128))"
  grep -qi -- "$expected" "$output" "$errors" || fail "$title: no word of \"$expected\""
  echo "passed: $title"
}

expect_output() { grep -q -- "$1" "$output" || fail "$2: expected \"$1\""; }

bench="db_bench --db=$db --num=$keys --progress_reports=0"

# db_bench. Backup and restore run in one thread: with more, db_bench's threads back up into one
# directory at once and fail on any file system.
run "db_bench, four threads" $bench --fs_uri="$store" --threads=4 --benchmarks=fillrandom,overwrite,readrandom,readseq,seekrandom,deleterandom,compact,readwhilewriting
run "db_bench, backup and restore" $bench --fs_uri="$store" --benchmarks=fillseq,overwrite,backup,restore
run "db_bench, existing database" $bench --fs_uri="$uri" --use_existing_db --benchmarks=readrandom
expect_output "($keys of $keys found)" "db_bench, existing database"
run "db_bench, synced writes" $bench --fs_uri="$uri" --benchmarks=fillsync --num=200 --sync=1
run "db_bench, direct I/O" $bench --fs_uri="$uri" --use_direct_reads --use_direct_io_for_flush_and_compaction --benchmarks=fillrandom,readrandom,compact,readseq
run "db_bench, asynchronous reads" $bench --fs_uri="$uri" --use_existing_db --async_io=1 --use_direct_reads --seek_nexts=100 --benchmarks=seekrandom,readseq --num=2000
run "db_bench, MultiGet" $bench --fs_uri="$uri" --use_existing_db --multiread_batched --batch_size=16 --benchmarks=multireadrandom
run "db_bench, mmap flags are ignored" $bench --fs_uri="$uri" --mmap_read --mmap_write --benchmarks=fillseq,readrandom
run "db_bench, range sync" $bench --fs_uri="$uri" --bytes_per_sync=65536 --wal_bytes_per_sync=65536 --benchmarks=fillrandom
run "db_bench, as an Env" db_bench --env_uri="$uri" --db=/env/db --num="$keys" --progress_reports=0 --benchmarks=fillseq,readrandom
run "db_bench, as an Env with keys" db_bench --env_uri="id=$uri?cache=32M" --db=/env/db --num="$keys" --progress_reports=0 --use_existing_db --benchmarks=readrandom
run "db_bench, last database for the tools" $bench --fs_uri="$uri" --benchmarks=fillseq,compact

# ldb and sst_dump read it, and write.
run "ldb scan" ldb --fs_uri="$uri" --db=$db --key_hex scan --no_value
[[ $(grep -c '^0x' "$output") -eq $keys ]] || fail "ldb scan: expected $keys keys"
run "ldb put" ldb --fs_uri="$uri" --db=$db put city Basel
run "ldb get" ldb --fs_uri="$uri" --db=$db get city
expect_output '^Basel$' "ldb get"
run "ldb manifest_dump" ldb --fs_uri="$uri" --db=$db manifest_dump
run "ldb checkpoint" ldb --fs_uri="$uri" --db=$db checkpoint --checkpoint_dir=/snapshots/one
run "ldb get from the checkpoint" ldb --fs_uri="$uri" --db=/snapshots/one get city
expect_output '^Basel$' "ldb get from the checkpoint"
run "ldb backup" ldb --fs_uri="$uri" --db=$db backup --backup_fs_uri="$uri" --backup_dir=/backups
run "ldb restore" ldb --fs_uri="$uri" --db=/restored restore --backup_fs_uri="$uri" --backup_dir=/backups
run "ldb get from the restored" ldb --fs_uri="$uri" --db=/restored get city
expect_output '^Basel$' "ldb get from the restored"
run "ldb backup into another store" ldb --fs_uri="$uri" --db=$db backup --backup_fs_uri="basalt://file:$directory/backup.img?create=512M" --backup_dir=/backups
run "ldb restore from another store" ldb --fs_uri="$uri" --db=/restored2 restore --backup_fs_uri="basalt://file:$directory/backup.img" --backup_dir=/backups
run "ldb compact" ldb --fs_uri="$uri" --db=/restored compact
run "ldb repair" ldb --fs_uri="$uri" --db=/restored2 repair
run "ldb checkconsistency" ldb --fs_uri="$uri" --db=/restored2 checkconsistency
run "ldb read-only" ldb --fs_uri="$uri?readonly=1" --db=/restored --key_hex scan --max_keys=5
run "sst_dump check" sst_dump --fs_uri="$uri" --file=$db --command=check
run "sst_dump scan" sst_dump --fs_uri="$uri" --file=$db --command=scan --read_num=10
run "sst_dump properties" sst_dump --fs_uri="$uri" --file=$db --show_properties
run "ldb list_file_range_deletes" ldb --fs_uri="$uri" --db=$db list_file_range_deletes

# What is wrong is refused; nothing goes on beside the store.
refuse "a device that is not there" "no such file\|not found\|not there" $bench --fs_uri="basalt://file:$directory/nothing.img" --benchmarks=fillseq
refuse "an unknown key" "metadata_cache" $bench --fs_uri="$uri?cahce=1M" --benchmarks=fillseq
refuse "an unknown scheme" "floppy" $bench --fs_uri="basalt://floppy:/dev/fd0" --benchmarks=fillseq
refuse "an empty URI" "basalt://" $bench --fs_uri="basalt://" --benchmarks=fillseq
refuse "an empty URI as Env" "basalt://" $bench --env_uri="basalt://" --benchmarks=fillseq
refuse "ldb with a wrong key" "metadata_cache" ldb --fs_uri="$uri?cahce=1M" --db=$db scan
refuse "a store on foreign data" "ext2\|signature\|holds" bash -c "
  truncate -s 256M foreign.img && printf '\x53\xef' | dd of=foreign.img bs=1 seek=1080 conv=notrunc status=none &&
  $bench --fs_uri='basalt://file:$directory/foreign.img?create=256M' --benchmarks=fillseq"

# Nothing of all this reached the machine's own file system.
[[ ! -e /data/db && ! -e /snapshots/one && ! -e /restored ]] || fail "files outside the store"
[[ $(find "$directory" -type f | sed 's|.*/||' | sort | tr '\n' ' ') == "backup.img errors foreign.img output store.img " ]] ||
  { ls -R "$directory"; fail "files beside the store"; }
echo "stock tools: passed"
