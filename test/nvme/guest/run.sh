#!/usr/bin/env bash
# Runs the guest tests of the NVMe driver: QEMU's controllers, through VFIO, behind emulated IOMMUs of 48 and 39
# bits, with blocks of 512 and 4096 bytes, two functions in one IOMMU group, and a controller unplugged under load.
#
# usage: run.sh BUILD_FOLDER [GTEST ARGUMENT...]
# BASALT_GUESTRUN names guestrun when it is not in ../shared/guest beside the project. Takes two to five minutes.
# Exit status: that of the first run that fails; 77 when there is no guestrun.
set -euo pipefail

root=$(cd "$(dirname "$0")/../../.." && pwd)
guestrun=${BASALT_GUESTRUN:-$root/../shared/guest/guestrun}
[ $# -ge 1 ] || { echo "usage: $0 BUILD_FOLDER [GTEST ARGUMENT...]" >&2; exit 2; }
build=$1
shift
if ! [ -x "$guestrun" ]; then
  echo "$0: no guestrun at $guestrun; set BASALT_GUESTRUN" >&2
  exit 77
fi

run_guest() { # PROGRAM BITS GUESTRUN-ARGUMENT... -- GTEST-ARGUMENT...
  local program=$1 bits=$2 options=()
  shift 2
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  "$guestrun" --vfio --iommu-bits "$bits" --module nvme --with-module ext4 \
    --env BASALT_IOMMU_BITS="$bits" --bin "$build/guest/$program" "${options[@]}" -- "$program" "${@:2}"
}

# unplug SOCKET LOG: takes the first controller away once the guest says it is at work.
unplug() {
  for _ in $(seq 600); do
    grep -q 'at work' "$2" && break
    sleep 0.2
  done
  python3 - "$1" <<'PYTHON'
import json, socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rw")
lines.readline()
for command in ({"execute": "qmp_capabilities"}, {"execute": "device_del", "arguments": {"id": "nvme0"}}):
    lines.write(json.dumps(command) + "\n")
    lines.flush()
    while "return" not in json.loads(lines.readline()):
        pass
PYTHON
}

for bits in 48 39; do
  echo "== functions, IOMMU with $bits bits"
  run_guest nvme_vfio_function_guest_test "$bits" --nvme 64M -- "$@"
done
echo "== functions, two in one IOMMU group"
run_guest nvme_vfio_function_guest_test 48 --nvme 64M:multifunction=on,addr=0.0 \
  --qemu-arg -device --qemu-arg nvme,bus=port0,addr=0.1,serial=other -- "$@"
echo "== driver, IOMMU with 48 bits, blocks of 512 B"
run_guest nvme_driver_guest_test 48 --nvme 64M --hugepages 16 -- "$@"
echo "== driver, IOMMU with 39 bits, blocks of 4096 B, no hugepages"
run_guest nvme_driver_guest_test 39 \
  --nvme 64M:ns.logical_block_size=4096,ns.physical_block_size=4096 -- "$@"

echo "== driver, a controller unplugged under load"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/log"
unplug "$scratch/qmp" "$scratch/log" &
run_guest nvme_driver_guest_test 48 --nvme 64M --qmp "$scratch/qmp" --env BASALT_REMOVAL=1 -- \
  --gtest_filter='*Unplugged*' | tee "$scratch/log"
wait
