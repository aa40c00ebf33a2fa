#!/usr/bin/env bash
# Runs vfio_function_test in a guest with an emulated controller behind an IOMMU of 48 bits, then of 39, then with
# a second controller that the IOMMU cannot tell from the first.
#
# usage: run.sh PROGRAM [GTEST ARGUMENT...]
# BASALT_GUESTRUN names guestrun when it is not in ../shared/guest beside the project. Exit status: that of the
# first run that fails; 77 when there is no guestrun.
set -euo pipefail

root=$(cd "$(dirname "$0")/../../.." && pwd)
guestrun=${BASALT_GUESTRUN:-$root/../shared/guest/guestrun}
[ $# -ge 1 ] || { echo "usage: $0 PROGRAM [GTEST ARGUMENT...]" >&2; exit 2; }
program=$1
shift
if ! [ -x "$guestrun" ]; then
  echo "$0: no guestrun at $guestrun; set BASALT_GUESTRUN" >&2
  exit 77
fi

run_guest() { # BITS GUESTRUN-ARGUMENT... -- GTEST-ARGUMENT...
  local bits=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  "$guestrun" --vfio --iommu-bits "$bits" --module nvme --with-module ext4 \
    --env BASALT_IOMMU_BITS="$bits" --bin "$program" "${options[@]}" -- "$(basename "$program")" "${@:2}"
}

for bits in 48 39; do
  echo "== IOMMU with $bits bits"
  run_guest "$bits" --nvme 64M -- "$@"
done
echo "== two controllers in one IOMMU group"
run_guest 48 --nvme 64M:multifunction=on,addr=0.0 \
  --qemu-arg -device --qemu-arg nvme,bus=port0,addr=0.1,serial=other -- "$@"
