#!/bin/sh
# In the guest: basalt and stock db_bench as NVMe/TCP hosts of Linux's target (nvmet) on the guest's own loopback: found
# by discovery, data compared with digests on and off, and the target taken away and brought back under load.
# Linux's target says of every namespace that it has a volatile write cache.
set -eu
nqn=nqn.2014-08.org.example:disk
address=127.0.0.1:4420
nvmet=/sys/kernel/config/nvmet
mount -t configfs configfs /sys/kernel/config
mkdir "$nvmet/subsystems/$nqn" "$nvmet/subsystems/$nqn/namespaces/1" "$nvmet/subsystems/$nqn/namespaces/2"
echo 1 >"$nvmet/subsystems/$nqn/attr_allow_any_host"
truncate -s 256M /tmp/disk
echo /dev/nullb0 >"$nvmet/subsystems/$nqn/namespaces/1/device_path"
echo /tmp/disk >"$nvmet/subsystems/$nqn/namespaces/2/device_path"
echo 1 >"$nvmet/subsystems/$nqn/namespaces/2/buffered_io"
echo 1 >"$nvmet/subsystems/$nqn/namespaces/1/enable"
echo 1 >"$nvmet/subsystems/$nqn/namespaces/2/enable"
mkdir "$nvmet/ports/1"
echo tcp >"$nvmet/ports/1/addr_trtype"
echo ipv4 >"$nvmet/ports/1/addr_adrfam"
echo 127.0.0.1 >"$nvmet/ports/1/addr_traddr"
echo 4420 >"$nvmet/ports/1/addr_trsvcid"
target_on() { ln -s "$nvmet/subsystems/$nqn" "$nvmet/ports/1/subsystems/$nqn"; }
target_off() { rm "$nvmet/ports/1/subsystems/$nqn"; }
target_on

basalt nvme discover $address | tee /tmp/out
grep -q "^nvme:tcp:$address/$nqn" /tmp/out
basalt nvme identify nvme:tcp:$address/$nqn | grep -E '^(mn|subnqn|ioccsz)|^namespace'

head -c 20000000 /dev/urandom >/tmp/file
for keys in '' '&header_digest' '&data_digest' '&header_digest&data_digest'; do
  for namespace in 1 2; do
    disk="nvme:tcp:$address/$nqn/$namespace?discover$keys"
    basalt mkfs --force "$disk"
    basalt put "$disk" /tmp/file /file
    basalt cat "$disk" /file | cmp - /tmp/file
    basalt check "$disk" >/dev/null
  done
  echo "equal with keys '$keys'"
done
basalt bench "nvme:tcp:$address/$nqn/1" randread --seconds 2

# Away and back every few seconds, until /tmp/enough is there. Who begins while it is away, or about to be, waits: an
# open that finds nobody is an error.
restarts() {
  while ! [ -e /tmp/enough ]; do
    sleep 2
    : >/tmp/away
    sleep 1
    target_off
    sleep 1
    target_on
    rm /tmp/away
  done
}
begin() {
  while [ -e /tmp/away ]; do sleep 0.1; done
  "$@" 2>>/tmp/err || {
    cat /tmp/err
    : >/tmp/enough
    exit 1
  }
}
disk="nvme:tcp:$address/$nqn/2?keep_alive=2&write_cache_survives"
basalt mkfs --force "$disk"
restarts &
for i in 1 2 3 4 5; do
  begin basalt put "$disk" /tmp/file "/file$i"
  begin basalt cat "$disk" "/file$i" >/tmp/back
  cmp /tmp/back /tmp/file
done
database() { # ARGUMENT...
  begin env LD_PRELOAD=/plugin.so db_bench --fs_uri="basalt://$disk" --db=/db --num=1000 --value_size=1000 "$@"
}
database --benchmarks=fillseq --sync=1
database --benchmarks=overwrite --sync=1 --use_existing_db=1 --duration=20
: >/tmp/enough
wait
echo "$(grep -c 'resetting the controller' /tmp/err) connections were lost under load"
grep -q 'resetting the controller' /tmp/err
basalt check "$disk"
database --use_existing_db=1 --benchmarks=readrandom --reads=1000 | tee /tmp/out
grep -q '(1000 of 1000 found)' /tmp/out
for i in 1 2 3 4 5; do basalt cat "$disk" "/file$i" | cmp - /tmp/file; done
echo "nothing lost"
