#!/usr/bin/env bash
# Runs the guest tests of the NVMe driver: QEMU's controllers, through VFIO, behind emulated IOMMUs of 48 and 39
# bits, with blocks of 512 and 4096 bytes, two functions in one IOMMU group, a controller unplugged under load, and
# stock db_bench on a store that loses power: the machine ends, and with it any of the writes no flush followed. Then
# Linux's NVMe/TCP target, which goes and comes back under load.
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

# tell_qemu SOCKET LOG WORDS COMMAND: one command of QEMU's monitor, once the guest says WORDS.
tell_qemu() {
  for _ in $(seq 600); do
    grep -q "$3" "$2" && break
    sleep 0.2
  done
  python3 - "$1" "$4" <<'PYTHON'
import json, socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rw")
lines.readline()
for command in ({"execute": "qmp_capabilities"}, json.loads(sys.argv[2])):
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

echo "== driver, a zoned namespace"
run_guest nvme_driver_guest_test 48 --nvme 64M:ns.zoned=true,ns.zoned.zone_size=4M -- \
  --gtest_filter='*ComesUp:*Zones*'

echo "== driver, a controller unplugged under load"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/log"
tell_qemu "$scratch/qmp" "$scratch/log" 'at work' \
  '{"execute": "device_del", "arguments": {"id": "nvme0"}}' &
run_guest nvme_driver_guest_test 48 --nvme 64M --qmp "$scratch/qmp" --env BASALT_REMOVAL=1 -- \
  --gtest_filter='*Unplugged*' | tee "$scratch/log"
wait

echo "== Linux's NVMe/TCP target"
"$guestrun" --mem 2G --timeout 600 --module nvmet-tcp --module 'null_blk nr_devices=1 gb=1 memory_backed=1' \
  --bin "$build/tool/basalt" --bin db_bench --file "$build/rocksdb_env/librocksdb_basalt.so:/plugin.so" \
  --script "$root/test/nvme/guest/tcp_host.sh"

echo "== the same with authentication, which takes a newer kernel"
"$guestrun" --kernel linux-image-6.12-amd64 --mem 1G --timeout 300 --module nvmet-tcp --with-module dh_generic \
  --module 'null_blk nr_devices=1 gb=1 memory_backed=1' --bin "$build/tool/basalt" \
  --script "$root/test/nvme/guest/tcp_auth.sh"

run_store() { # GUESTRUN-ARGUMENT...
  "$guestrun" --vfio --mem 1G --hugepages 16 --timeout 300 --bin "$build/tool/basalt" --bin db_bench \
    --file "$build/rocksdb_env/librocksdb_basalt.so:/plugin.so" "$@"
}
here=$root/test/nvme/guest
replay=$(dirname "$guestrun")/examples/writelog.py
for block in 512 4096; do
  echo "== RocksDB on two namespaces with blocks of $block B, cut off while it writes"
  format=ns.logical_block_size=$block,ns.physical_block_size=$block
  : >"$scratch/log"
  rm -f "$scratch/disk" "$scratch/writes" "$scratch/qmp"
  truncate -s 256M "$scratch/disk"
  tell_qemu "$scratch/qmp" "$scratch/log" '^synced' '{"execute": "quit"}' &
  run_store --qmp "$scratch/qmp" --nvme "$scratch/disk+64M:log=$scratch/writes,$format" \
    --script "$here/load_store.sh" >"$scratch/log" 2>&1 || true
  wait
  if ! grep -q '^synced' "$scratch/log"; then
    cat "$scratch/log"
    exit 1
  fi
  count=$(python3 "$replay" list "$scratch/writes" | wc -l)
  for seed in 1 2 3; do
    echo "== the same without some of the writes that no flush followed (seed $seed)"
    rm -f "$scratch/disk"
    truncate -s 256M "$scratch/disk"
    python3 "$replay" torn "$scratch/writes" "$scratch/disk" "$count" "$seed"
    run_store --nvme "$scratch/disk:$format" --script "$here/verify_store.sh" >"$scratch/log" 2>&1 || {
      cat "$scratch/log"
      exit 1
    }
    grep -E 'found|^clean' "$scratch/log"
  done
done
