#!/usr/bin/env bash
# The demo: stock db_bench on a Basalt store and on ext4, the same flags, turn by turn; then a table,
# a chart and a check of the store. Called by ./dev demo with the build directory.
#
# Both sides live on files of the same size, written in full beforehand, on the same disk. ext4 is
# fresh, has its journal, and sits on a loop device with direct I/O; where loop devices are not allowed
# the plain file system takes its place and the table says so. Everything is undone at the end.
# usage: bench/demo/run.sh BUILD_DIRECTORY [--num N] [--rounds N] [--size GiB] [--cache SIZE] [--quick]
set -euo pipefail

build=$1; shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
num=400000 rounds=2 size_gib=3 cache=512M sync_ops=2000
while [ $# -gt 0 ]; do
  case $1 in
    --num) num=${2:?--num needs a number}; shift ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift ;;
    --size) size_gib=${2:?--size needs GiB}; shift ;;
    --cache) cache=${2:?--cache needs a size, for example 512M}; shift ;;
    --quick) num=50000 rounds=1 size_gib=1 sync_ops=1000 ;;
    *) echo "demo: there is no option \"$1\"" >&2; exit 2 ;;
  esac
  shift
done

basalt=$build/tool/basalt
work=$build/demo
store="file:$work/basalt.img"
mount_point="" loop=""

cleanup() {
  cd /
  [ -z "$mount_point" ] || { umount "$mount_point" 2>/dev/null || true; rmdir "$mount_point" || true; }
  [ -z "$loop" ] || losetup -d "$loop" || true
  rm -rf "$work/ext4.img" "$work/basalt.img" "$work/plain"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "$*" >&2; }

# A file whose every block is on the disk already.
written_file() {
  dd if=/dev/zero of="$1" bs=1M count=$((size_gib * 1024)) oflag=direct conv=fsync status=none 2>/dev/null ||
    dd if=/dev/zero of="$1" bs=1M count=$((size_gib * 1024)) conv=fsync status=none
}

# Sets other_label and other_dir: ext4 on a loop device, or else the plain file system.
prepare_other() {
  written_file "$work/ext4.img"
  if [ "$(id -u)" = 0 ] && loop=$(losetup --find --show --direct-io=on "$work/ext4.img" 2>/dev/null) &&
      mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$loop" &&
      mount_point=$(mktemp -d) && mount -t ext4 "$loop" "$mount_point" 2>/dev/null; then
    other_label=ext4
    other_text="ext4 with its journal, on a loop device with direct I/O"
    other_dir=$mount_point/demo
    [ "$(losetup --noheadings --output DIO "$loop" | tr -d ' ')" = 1 ] ||
      other_text="ext4 with its journal, on a loop device WITHOUT direct I/O (not allowed here)"
  else
    [ -z "$loop" ] || losetup -d "$loop"
    [ -z "$mount_point" ] || rmdir "$mount_point"
    loop="" mount_point=""
    rm -f "$work/ext4.img"
    mkdir -p "$work/plain"
    other_label=$(stat -f -c %T "$work/plain")
    other_text="this machine's $other_label, directly (loop devices are not allowed here)"
    other_dir=$work/plain/demo
  fi
}

# one_run SIDE LABEL_SUFFIX DB_BENCH_FLAGS…: prints "side benchmark ops_per_second" lines.
one_run() {
  local side=$1 suffix=$2 log="$work/db_bench.$1.log" status=0; shift 2
  local flags=("$@" --value_size=400 --seed=17 --histogram=0)
  if [ "$side" = basalt ]; then
    "$basalt" run "$store" --cache "$cache" -- db_bench --db=/demo "${flags[@]}" >"$log" 2>&1 || status=$?
  else
    db_bench --db="$other_dir" "${flags[@]}" >"$log" 2>&1 || status=$?
  fi
  if [ "$status" != 0 ]; then
    tail -n 20 "$log" >&2
    say "demo: db_bench on $side ended with status $status (above)"
    exit 1
  fi
  awk -v side="$side" -v suffix="$suffix" '
    / micros\/op .* ops\/sec .* seconds .* operations/ {
      for (i = 1; i <= NF; i++) { if ($i == "seconds") seconds = $(i - 1); if ($i ~ /^operations/) ops = $(i - 1) }
      if (seconds > 0) print side, $1 suffix, ops / seconds
    }' "$log"
}

# both ROUND SUFFIX FLAGS…: the two sides in turn; who begins changes every time.
turn=0
both() {
  local sides=(basalt other) side
  turn=$((turn + 1))
  [ $((turn % 2)) = 0 ] && sides=(other basalt)
  for side in "${sides[@]}"; do one_run "$side" "$@" >>"$work/results"; done
}

mkdir -p "$work"
: >"$work/results"
say "preparing two files of $size_gib GiB on $(stat -f -c %T "$work")"
written_file "$work/basalt.img"
prepare_other
"$basalt" mkfs "$store" >&2
start=$SECONDS
for ((round = 1; round <= rounds; round++)); do
  say "round $round of $rounds"
  # fillsync does nothing with --num below 1000.
  both "" --benchmarks=fillsync --num="$sync_ops"
  both "-8-threads" --benchmarks=fillsync --num=1000 --threads=8
  both "" --benchmarks=fillseq --num="$num"
  both "" --benchmarks=fillrandom,overwrite,readrandom,seekrandom,readwhilewriting,compact,readseq \
    --num="$num" --reads=$((num / 4))
done
say "measured in $((SECONDS - start)) s"

{
  echo "RocksDB's stock db_bench, operations per second, mean of $rounds interleaved rounds"
  echo "  basalt: a store in a file, page cache $cache"
  echo "  $other_label: $other_text"
  echo
  awk -v other="$other_label" -f "$here/table.awk" "$work/results"
  echo
  echo "Debian's librocksdb has assertions on, computes CRC32C in software and has no io_uring."
} | tee "$work/table.txt"
awk -v other="$other_label" -f "$here/chart.awk" "$work/results" >"$work/chart.svg"
echo "chart: $work/chart.svg"
echo
echo "basalt check:"
"$basalt" check "$store"
