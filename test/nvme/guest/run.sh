#!/usr/bin/env bash
# Runs the driver, the tool and stock db_bench in guests, against QEMU's NVMe controllers (through VFIO, behind emulated
# IOMMUs) and Linux's NVMe/TCP target.
#
# usage: run.sh [--quick] BUILD_FOLDER [PART...]
# Parts are run in the order of `all` below, or as they are named; --quick: those of `quick`, a minute and a quarter on
# two cores.
# BASALT_GUESTRUN names guestrun when it is not in ../shared/guest beside the project.
# Exit status: that of the first part that fails; 77 when there is no guestrun.
set -euo pipefail

all=(functions_48 functions_39 functions_group driver_512 driver_4096 zoned unplugged hotplug tool tcp tcp_multipath tcp_auth nvmf nvmf_control
  store_512 store_4096 store_unplugged noiommu)
quick=(driver_512 tool store_512 nvmf)

root=$(cd "$(dirname "$0")/../../.." && pwd)
here=$root/test/nvme/guest
guestrun=${BASALT_GUESTRUN:-$root/../shared/guest/guestrun}
seeds=(1 2 3)
parts=("${all[@]}")
if [ "${1:-}" = --quick ]; then
  parts=("${quick[@]}")
  seeds=(1)
  shift
fi
[ $# -ge 1 ] || { echo "usage: $0 [--quick] BUILD_FOLDER [PART...]; parts: ${all[*]}" >&2; exit 2; }
build=$1
shift
[ $# -eq 0 ] || parts=("$@")
if ! [ -x "$guestrun" ]; then
  echo "$0: no guestrun at $guestrun; set BASALT_GUESTRUN" >&2
  exit 77
fi
scratch=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$scratch"' EXIT  # some have ended already

# tell_qemu WORDS COMMAND: one command of QEMU's monitor, once $scratch/log says WORDS.
tell_qemu() {
  local tries=600
  until grep -q "$1" "$scratch/log"; do
    if [ $((tries -= 1)) = 0 ]; then
      echo "QEMU was not told $2: nobody said $1" >&2
      return 1
    fi
    sleep 0.2
  done
  python3 - "$scratch/qmp" "$2" <<'PYTHON'
import json, socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rw")
lines.readline()
for command in ({"execute": "qmp_capabilities"}, json.loads(sys.argv[2])):
    lines.write(json.dumps(command) + "\n")
    lines.flush()
    while True:
        line = lines.readline()
        answer = json.loads(line) if line else {"error": "QEMU has gone"}
        if "error" in answer:
            sys.exit(f"QEMU refuses {command}: {answer['error']}")
        if "return" in answer:
            break
PYTHON
}
unplug='{"execute": "device_del", "arguments": {"id": "nvme0"}}'
plug='{"execute": "device_add", "arguments": {"driver": "nvme", "id": "another", "serial": "another", "bus": "port0"}}'

# ---- Test programs

run_test() { # PROGRAM BITS GUESTRUN-ARGUMENT... -- GTEST-ARGUMENT...
  local program=$1 bits=$2 options=()
  shift 2
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  "$guestrun" --vfio --iommu-bits "$bits" --module nvme --with-module ext4 \
    --env BASALT_IOMMU_BITS="$bits" --bin "$build/guest/$program" "${options[@]}" -- "$program" "${@:2}"
}
functions=nvme_vfio_function_guest_test driver=nvme_driver_guest_test
functions_48() { run_test $functions 48 --nvme 64M --; }
functions_39() { run_test $functions 39 --nvme 64M --; }
functions_group() { # two in one IOMMU group
  run_test $functions 48 --nvme 64M:multifunction=on,addr=0.0 \
    --qemu-arg -device --qemu-arg nvme,bus=port0,addr=0.1,serial=other --
}
driver_512() { run_test $driver 48 --nvme 64M --hugepages 16 --; }
driver_4096() { # and 39 bits, and no hugepages
  run_test $driver 39 --nvme 64M:ns.logical_block_size=4096,ns.physical_block_size=4096 --
}
zoned() {
  run_test $driver 48 --nvme 64M:ns.zoned=true,ns.zoned.zone_size=4M -- --gtest_filter='*ComesUp:*Zones*'
}
unplugged() { # under load
  : >"$scratch/log"
  rm -f "$scratch/qmp"
  tell_qemu 'at work' "$unplug" &
  run_test $driver 48 --nvme 64M --qmp "$scratch/qmp" --env BASALT_REMOVAL=1 -- \
    --gtest_filter='*Unplugged*' | tee "$scratch/log"
  wait
}

# ---- Scripts

programs=(--bin "$build/tool/basalt" --bin db_bench --file "$build/rocksdb_env/librocksdb_basalt.so:/plugin.so")
disk_in_memory='null_blk nr_devices=1 gb=1 memory_backed=1'
tool() {
  "$guestrun" --vfio --mem 1G "${programs[@]}" \
    --nvme 64M:ns.ms=8,ns.pi=1,ns.logical_block_size=4096,ns.physical_block_size=4096 \
    --nvme 64M:ns.zoned=true,ns.zoned.zone_size=4M --nvme 64M --script "$here/namespaces.sh"
}
hotplug() { # taken away, and another put in its place
  : >"$scratch/log"
  rm -f "$scratch/qmp"
  { tell_qemu '^waiting' "$unplug" && tell_qemu 'is gone' "$plug"; } &
  "$guestrun" --vfio --mem 512M --bin "$build/tool/basalt" --nvme 64M --qmp "$scratch/qmp" --script "$here/hotplug.sh" |
    tee "$scratch/log"
  wait
}
tcp() {
  "$guestrun" --mem 2G --timeout 600 --module nvmet-tcp --module "$disk_in_memory" "${programs[@]}" \
    --script "$here/tcp_host.sh"
}
tcp_multipath() {
  "$guestrun" --mem 2G --timeout 600 --module nvmet-tcp --module "$disk_in_memory" "${programs[@]}" \
    --script "$here/tcp_multipath.sh"
}
tcp_auth() { # takes a newer kernel
  "$guestrun" --kernel linux-image-6.12-amd64 --mem 1G --timeout 300 --module nvmet-tcp --with-module dh_generic \
    --module "$disk_in_memory" "${programs[@]}" --script "$here/tcp_auth.sh"
}

# ---- Linux as a host of our target, which runs on this side

nvmf() {
  local nqn=nqn.2014-08.org.example:disk server port
  serve() { # PORT
    "$build/targets/daemon/basalt-nvmf" --listen "127.0.0.1:$1" --nqn $nqn "file:$scratch/exported?size=256M" \
      >"$scratch/served" &
    server=$!
    until grep -q '^listening' "$scratch/served"; do
      kill -0 "$server" || return 1
      sleep 0.1
    done
  }
  : >"$scratch/log"
  rm -f "$scratch/exported"
  serve 0
  port=$(sed -n 's/^listening on .*:\([0-9]*\) as .*/\1/p' "$scratch/served")
  "$guestrun" --net --mem 1G --smp 4 --timeout 300 --module nvme-tcp --with-module ext4 --deb nvme-cli --deb fio --deb e2fsprogs \
    --script "$here/../../targets/nvmf/guest/linux_host.sh" "$port" $nqn >"$scratch/log" 2>&1 &
  local guest=$! status=0
  until grep -q '^restart the target' "$scratch/log" || ! kill -0 "$guest" 2>/dev/null; do sleep 0.2; done
  kill -KILL "$server"
  wait "$server" || true
  sleep 3
  serve "$port"
  wait "$guest" || status=$?
  cat "$scratch/log"
  kill "$server"
  wait "$server"
  return "$status"
}

nvmf_control() { # takes a newer kernel
  local nqn=nqn.2014-08.org.example:disk secure=nqn.2014-08.org.example:secure host=nqn.2014-08.org.example:host
  local secret=DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:
  local controller_secret=DHHC-1:02:MDc+RUxTWmFob3Z9hIuSmaCnrrW8w8rR2N/m7fT7AgkQFx4lLDM6QUhPVl1ka3J51wkKvA==:
  local wrong=DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:
  local first second
  rpc() { "$build/tool/basalt" rpc -s "$scratch/rpc" "$@"; }
  listener() { # NQN PORT STATE; says the port
    rpc nvmf_subsystem_add_listener nqn="$1" listen_address.trtype=TCP listen_address.traddr=127.0.0.1 \
      listen_address.trsvcid="$2" ana_state="$3" >/dev/null
    rpc nvmf_subsystem_get_listeners nqn="$1" | sed -n 's/.*"trsvcid": "\([0-9]*\)".*/\1/p' | grep -vx "${4:-0}"
  }
  mkdir -p "$scratch/state"
  "$build/targets/daemon/basaltd" -r "$scratch/rpc" --state "$scratch/state" >"$scratch/served" 2>&1 &
  local server=$!
  until grep -q 'is ready' "$scratch/served"; do
    kill -0 "$server" || return 1
    sleep 0.1
  done
  (umask 077 && echo $secret >"$scratch/secret" && echo $controller_secret >"$scratch/controller_secret")
  {
    rpc keyring_file_add_key name=host path="$scratch/secret"
    rpc keyring_file_add_key name=controller path="$scratch/controller_secret"
    rpc bdev_malloc_create name=Disk num_blocks=16384 block_size=4096
    rpc nvmf_create_transport trtype=TCP
    rpc nvmf_create_subsystem nqn=$nqn allow_any_host=true ana_reporting=true
    rpc nvmf_subsystem_add_ns nqn=$nqn namespace.bdev_name=Disk
    rpc nvmf_create_subsystem nqn=$secure
    rpc nvmf_subsystem_add_host nqn=$secure host=$host dhchap_key=host dhchap_ctrlr_key=controller
  } >/dev/null
  first=$(listener $nqn 0 optimized)
  second=$(listener $nqn 0 inaccessible "$first")
  listener $secure "$first" optimized >/dev/null
  : >"$scratch/log"
  "$guestrun" --kernel linux-image-6.12-amd64 --net --mem 1G --timeout 300 --module nvme-tcp --with-module dh_generic \
    --deb nvme-cli --deb fio --script "$here/../../targets/nvmf/guest/linux_control.sh" "$first" "$second" $nqn $secure \
    $secret $controller_secret $wrong >"$scratch/log" 2>&1 &
  local guest=$! status=0 done=0 total line
  while kill -0 "$guest" 2>/dev/null; do
    total=$(grep -c '^ask ' "$scratch/log" || true)
    while [ "$done" -lt "$total" ]; do
      done=$((done + 1))
      line=$(grep '^ask ' "$scratch/log" | sed -n "${done}p" | tr -d '\r')
      # shellcheck disable=SC2086
      rpc ${line#ask } >/dev/null
    done
    sleep 0.2
  done
  wait "$guest" || status=$?
  cat "$scratch/log"
  grep 'authentication failed' "$scratch/served" || status=1
  kill "$server"
  wait "$server"
  return "$status"
}

noiommu() { # needs modules that Debian does not have; guestrun's example makes them, once
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestrun modules
  "$guestrun" --prepare
  [ -e "$cache/kernel" ] || ln -s kernel-linux-image-amd64 "$cache/kernel"  # where the example looks for it
  "$(dirname "$guestrun")/examples/vfio-noiommu.sh" >/dev/null
  modules=$(readlink -f "$cache/kernel")/noiommu
  "$guestrun" --no-driver --mem 2G --nvme 128M --hugepages 256 --module irqbypass "${programs[@]}" \
    --bin "$build/guest/$driver" --file "$modules:/noiommu" --script "$here/noiommu.sh"
}

# ---- RocksDB on two namespaces, cut off while it writes

run_store() { # SCRIPT GUESTRUN-ARGUMENT...: the output is in $scratch/log
  "$guestrun" --vfio --mem 1G --hugepages 16 --timeout 300 "${programs[@]}" "${@:2}" --script "$here/$1.sh" \
    >"$scratch/log" 2>&1
}
fail_with_log() {
  cat "$scratch/log"
  return 1
}
new_disk() {
  rm -f "$scratch/disk" "$scratch/writes" "$scratch/qmp"
  truncate -s 256M "$scratch/disk"
}
verify_store() { # NVME-OPTIONS
  run_store verify_store --nvme "$scratch/disk$1" || fail_with_log
  grep -E 'found|^clean' "$scratch/log"
}
# What no flush followed may be lost: some of it is, by each seed.
store_loses_power() { # BLOCK-SIZE
  local format=ns.logical_block_size=$1,ns.physical_block_size=$1 replay count seed
  replay=$(dirname "$guestrun")/examples/writelog.py
  : >"$scratch/log"
  new_disk
  tell_qemu '^overwriting' '{"execute": "quit"}' &
  run_store load_store --qmp "$scratch/qmp" --nvme "$scratch/disk+64M:log=$scratch/writes,$format" || true
  wait
  grep -q '^overwriting' "$scratch/log" || fail_with_log
  count=$(python3 "$replay" list "$scratch/writes" | wc -l)
  mv "$scratch/writes" "$scratch/recorded"
  for seed in "${seeds[@]}"; do
    echo "without some of the writes that no flush followed (seed $seed)"
    new_disk
    python3 "$replay" torn "$scratch/recorded" "$scratch/disk" "$count" "$seed"
    verify_store ":$format"
  done
}
store_512() { store_loses_power 512; }
store_4096() { store_loses_power 4096; }
# The processes on a controller that is taken away end with an error in words, and what they have written is there.
store_unplugged() {
  local status=0
  : >"$scratch/log"
  new_disk
  tell_qemu '^overwriting' "$unplug" &
  run_store load_store --qmp "$scratch/qmp" --nvme "$scratch/disk+64M" || status=$?
  wait
  # 122 and more are guestrun's own: it ran out of time, say.
  if [ "$status" = 0 ] || [ "$status" -ge 122 ] || ! grep -q '^overwriting' "$scratch/log"; then fail_with_log; fi
  grep -iE -m 1 'removed|is gone' "$scratch/log" || fail_with_log
  verify_store ''
}

for part in "${parts[@]}"; do
  case " ${all[*]} " in
    *" $part "*) ;;
    *) echo "$0: there is no part $part; there are: ${all[*]}" >&2; exit 2 ;;
  esac
done
for part in "${parts[@]}"; do
  echo "== $part"
  start=$SECONDS
  "$part"
  echo "== $part: $((SECONDS - start)) s"
done
