#!/bin/sh
# In the guest: a namespace of Linux's target (nvmet) over two of its ports at once. Each port in turn goes and comes back
# under load, and then says by ANA that it does not reach the namespace; nothing is lost, and both are used.
set -eu
nqn=nqn.2014-08.org.example:disk
nvmet=/sys/kernel/config/nvmet
subsystem=$nvmet/subsystems/$nqn
mount -t configfs configfs /sys/kernel/config
mkdir "$subsystem" "$subsystem/namespaces/1"
echo 1 >"$subsystem/attr_allow_any_host"
echo /dev/nullb0 >"$subsystem/namespaces/1/device_path"
echo 1 >"$subsystem/namespaces/1/enable"
for port in 1 2; do
  mkdir "$nvmet/ports/$port"
  echo tcp >"$nvmet/ports/$port/addr_trtype"
  echo ipv4 >"$nvmet/ports/$port/addr_adrfam"
  echo 127.0.0.1 >"$nvmet/ports/$port/addr_traddr"
  echo 442$((port - 1)) >"$nvmet/ports/$port/addr_trsvcid"
done
port_on() { ln -s "$subsystem" "$nvmet/ports/$1/subsystems/$nqn"; }
port_off() { rm "$nvmet/ports/$1/subsystems/$nqn"; }
access() { echo "$2" >"$nvmet/ports/$1/ana_groups/1/ana_state"; }
port_on 1
port_on 2

disk="nvme:tcp:127.0.0.1:4420,127.0.0.1:4421/$nqn/1?multipath=round-robin&keep_alive=2&write_cache_survives"
basalt mkfs --force "$disk"
head -c 20000000 /dev/urandom >/tmp/file
basalt put "$disk" /tmp/file /first
basalt cat "$disk" /first | cmp - /tmp/file
echo "equal over two paths"
basalt bench "nvme:tcp:127.0.0.1:4420,127.0.0.1:4421/$nqn/1?multipath=queue-depth" randread --seconds 2

# One port at a time is away, so that there is always a way; who begins meanwhile goes without it.
trouble() {
  while ! [ -e /tmp/enough ]; do
    for port in 1 2; do
      sleep 2
      port_off $port
      sleep 1
      port_on $port
      sleep 3
      access $port inaccessible
      sleep 2
      access $port optimized
    done
  done
}
must() {
  "$@" 2>>/tmp/err || {
    cat /tmp/err >&2
    : >/tmp/enough
    exit 1
  }
}
trouble &
troublemaker=$!
for i in 1 2 3; do
  must basalt put "$disk" /tmp/file "/file$i"
  must basalt cat "$disk" "/file$i" >/tmp/back
  cmp /tmp/back /tmp/file
done
database() { # ARGUMENT...
  must env LD_PRELOAD=/plugin.so db_bench --fs_uri="basalt://$disk" --db=/db --num=1000 --value_size=1000 "$@"
}
database --benchmarks=fillseq --sync=1
database --benchmarks=overwrite --sync=1 --use_existing_db=1 --duration=40
: >/tmp/enough
wait $troublemaker
echo "$(grep -c 'resetting the controller' /tmp/err) connections were lost under load"
grep -q 'resetting the controller' /tmp/err
basalt check "$disk"
database --use_existing_db=1 --benchmarks=readrandom --reads=1000 | tee /tmp/out
grep -q '(1000 of 1000 found)' /tmp/out
for i in 1 2 3; do basalt cat "$disk" "/file$i" | cmp - /tmp/file; done
echo "nothing lost"
