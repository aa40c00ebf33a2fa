#!/usr/bin/env bash
# 4 KiB random reads through one channel of file: and by fio's io_uring engine on the same file, both
# with O_DIRECT and registered file and buffers; then write+flush latency against pwrite+fdatasync.
# Not the same ring flags: fio sets COOP_TASKRUN, SINGLE_ISSUER and DEFER_TASKRUN, which a channel that
# may move between threads cannot. Runs in pairs, in alternating order, and prints the median of the
# pairs' ratios with the lowest and highest: on a busy machine the spread says more than the median.
#   compare_fio.sh BUILD_DIR [FILE] [ROUNDS] [SECONDS]
set -euo pipefail
program=$1/bench-programs/device_bench
file=${2:-${TMPDIR:-/tmp}/basalt-compare-fio.img}
rounds=${3:-11}
seconds=${4:-2}
if [ ! -e "$file" ]; then
  trap 'rm -f "$file"' EXIT
  dd if=/dev/zero of="$file" bs=1M count=2048 oflag=direct status=none
fi

basalt_read() { "$program" read "file:$file" "$1" "$seconds"; }
fio_read() {
  fio --name=r --filename="$file" --rw=randread --bs=4k --direct=1 --ioengine=io_uring --iodepth="$1" \
    --iodepth_batch_submit="$1" --iodepth_batch_complete_min=1 --iodepth_batch_complete_max="$1" \
    --registerfiles=1 --fixedbufs=1 --norandommap=1 --randrepeat=0 --time_based --runtime="$seconds" \
    --minimal | cut -d';' -f8
}
for depth in 1 32 128; do
  for ((i = 0; i < rounds; i++)); do
    if ((i % 2)); then
      theirs=$(fio_read "$depth"); ours=$(basalt_read "$depth")
    else
      ours=$(basalt_read "$depth"); theirs=$(fio_read "$depth")
    fi
    awk "BEGIN {printf \"%.3f %d %d\n\", $ours / $theirs, $ours, $theirs}"
  done | sort -n | awk -v depth="$depth" '{r[NR] = $1} END {
    printf "depth %d: basalt/fio median %.2f, %.2f to %.2f, %d pairs\n",
      depth, r[int((NR + 1) / 2)], r[1], r[NR], NR}'
done
"$program" sync "file:$file" 2000
