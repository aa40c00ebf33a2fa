#!/usr/bin/env bash
# 4 KiB random reads through one channel of file: against fio's io_uring engine on the same file, in
# turn, with the same flags (O_DIRECT, registered file and buffers); then write+flush latency against
# pwrite+fdatasync. Prints medians and ratios.
#   compare_fio.sh BUILD_DIR [FILE] [ROUNDS] [SECONDS]
set -euo pipefail
program=$1/bench-programs/device_bench
file=${2:-${TMPDIR:-/tmp}/basalt-compare-fio.img}
rounds=${3:-5}
seconds=${4:-3}
[ -e "$file" ] || { dd if=/dev/zero of="$file" bs=1M count=2048 oflag=direct status=none; trap 'rm -f "$file"' EXIT; }

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
fio_read() { # DEPTH
  fio --name=r --filename="$file" --rw=randread --bs=4k --direct=1 --ioengine=io_uring --iodepth="$1" \
    --iodepth_batch_submit="$1" --iodepth_batch_complete_min=1 --iodepth_batch_complete_max="$1" \
    --registerfiles=1 --fixedbufs=1 --norandommap=1 --randrepeat=0 --time_based --runtime="$seconds" \
    --minimal | cut -d';' -f8
}
for depth in 1 32 128; do
  ours=(); theirs=()
  for ((i = 0; i < rounds; i++)); do
    ours+=("$("$program" read "file:$file" "$depth" "$seconds")")
    theirs+=("$(fio_read "$depth")")
  done
  a=$(printf '%s\n' "${ours[@]}" | median)
  b=$(printf '%s\n' "${theirs[@]}" | median)
  echo "depth $depth: basalt $a IOPS, fio $b IOPS, ratio $(awk "BEGIN {printf \"%.3f\", $a / $b}")"
done
"$program" sync "file:$file" 2000
