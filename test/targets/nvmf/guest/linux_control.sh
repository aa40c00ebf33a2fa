#!/bin/sh
# In the guest: what is changed at basaltd outside while Linux is connected: a namespace added and removed, ANA states of two
# listeners under load, hosts that authenticate themselves in both modes, and one with the wrong secret.
# Asks for a change by a line "ask METHOD PARAMETERS…", which the machine outside has made, and waits to see it.
# Takes a kernel with NVMe authentication.
set -eu
first=$1 second=$2 nqn=$3 secure=$4 secret=$5 controller_secret=$6 wrong=$7
host=nqn.2014-08.org.example:host
connect() { # PORT NQN …
  port=$1 subsystem=$2
  shift 2
  nvme connect -t tcp -a 10.0.2.2 -s "$port" -n "$subsystem" --hostnqn $host --hostid 11111111-2222-4333-8444-555555555555 "$@"
}
until_true() {
  tries=200
  until eval "$1"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "never true: $1"; exit 1; }
    sleep 0.1
  done
}

connect "$first" "$nqn" >/dev/null
waitfor /dev/nvme0n1
echo "ask bdev_malloc_create name=Second num_blocks=8192 block_size=4096"
echo "ask nvmf_subsystem_add_ns nqn=$nqn namespace.bdev_name=Second namespace.nsid=2"
until_true 'ls /sys/class/block | grep -q n2$'
echo "a namespace has come"
echo "ask nvmf_subsystem_remove_ns nqn=$nqn nsid=2"
until_true '! ls /sys/class/block | grep -q n2$'
echo "and gone"

# Alone in the namespace, for a while; that it is would survive power loss.
nvme resv-register /dev/nvme0n1 --nrkey=4660 --rrega=0 --cptpl=3
nvme resv-acquire /dev/nvme0n1 --crkey=4660 --rtype=1 --racqa=0
nvme resv-report /dev/nvme0n1 --eds | grep -E 'rtype|regctl|ptpls|rkey'
nvme resv-release /dev/nvme0n1 --crkey=4660 --rtype=1 --rrela=0
nvme resv-register /dev/nvme0n1 --crkey=4660 --rrega=1

# Two paths: the first is taken away while fio writes, then given back for the second.
connect "$second" "$nqn" >/dev/null
until_true 'grep -q inaccessible /sys/class/nvme/nvme*/nvme*c*n1/ana_state'
cat /sys/class/nvme/nvme*/nvme*c*n1/ana_state | sort
fio --name=paths --filename=/dev/nvme0n1 --rw=write --bs=16k --size=16M --iodepth=16 --ioengine=libaio --direct=1 \
  --verify=crc32c --do_verify=1 --time_based=0 --output=/tmp/fio &
load=$!
sleep 1
echo "ask nvmf_subsystem_listener_set_ana_state nqn=$nqn ana_state=optimized listen_address.traddr=127.0.0.1 listen_address.trsvcid=$second"
echo "ask nvmf_subsystem_listener_set_ana_state nqn=$nqn ana_state=inaccessible listen_address.traddr=127.0.0.1 listen_address.trsvcid=$first"
wait $load || { cat /tmp/fio; exit 1; }
grep -E 'err= *0' /tmp/fio | head -1
until_true 'grep -q optimized /sys/class/nvme/nvme*/nvme*c*n1/ana_state'
cat /sys/class/nvme/nvme*/nvme*c*n1/ana_state | sort
nvme disconnect -n "$nqn" >/dev/null

# Who is who.
connect "$first" "$secure" --dhchap-secret "$secret" >/dev/null
echo "authenticated: $(cat /sys/class/nvme/nvme*/dhchap_secret | head -1 | cut -c 1-9)"
nvme disconnect -n "$secure" >/dev/null
connect "$first" "$secure" --dhchap-secret "$secret" --dhchap-ctrl-secret "$controller_secret" >/dev/null
echo "authenticated both ways"
nvme disconnect -n "$secure" >/dev/null
if connect "$first" "$secure" --dhchap-secret "$wrong" >/tmp/out 2>&1; then exit 1; fi
echo "refused with the wrong secret"
if connect "$first" "$secure" >/tmp/out 2>&1; then exit 1; fi
echo "refused without one"
