#!/bin/sh
# In the guest: Linux as a host of basalt-nvmf, which runs on the machine outside: discovery, digests on and off, a file
# system, fio's verification at depth 32 on several queues, and the target taken away and brought back under load.
# Speaks to the machine outside by what it prints ("restart the target") and waits for $1's answer to come true.
set -eu
port=$1 nqn=$2
connect() { nvme connect -t tcp -a 10.0.2.2 -s "$port" -n "$nqn" -i 4 "$@" >/dev/null; waitfor /dev/nvme0n1; }
disconnect() { nvme disconnect -n "$nqn" >/dev/null; }

nvme discover -t tcp -a 10.0.2.2 -s "$port" | tee /tmp/out | grep -E 'subnqn|trsvcid'
grep -q "subnqn: *$nqn" /tmp/out

for digests in '' '--hdr-digest' '--data-digest' '--hdr-digest --data-digest'; do
  # shellcheck disable=SC2086
  connect $digests
  head -c 4000000 /dev/urandom >/tmp/data
  dd if=/tmp/data of=/dev/nvme0n1 bs=125K oflag=direct 2>/dev/null
  dd if=/dev/nvme0n1 of=/tmp/back bs=125K count=32 iflag=direct 2>/dev/null
  head -c 4000000 /tmp/back | cmp - /tmp/data
  echo "equal with '$digests'"
  disconnect
done

connect
nvme id-ctrl /dev/nvme0 | grep -E '^(mn|vwc|mdts|oncs|fuses)'
nvme list-ns /dev/nvme0
nvme smart-log /dev/nvme0 | grep -m 1 temperature
echo "queues: $(cat /sys/class/nvme/nvme0/queue_count)"
mkfs.ext4 -q -F /dev/nvme0n1
mkdir -p /tmp/mount
mount -t ext4 /dev/nvme0n1 /tmp/mount
cp /tmp/data /tmp/mount/file
umount /tmp/mount
mount -t ext4 /dev/nvme0n1 /tmp/mount
cmp /tmp/data /tmp/mount/file
umount /tmp/mount
echo "a file system's file is equal"

# A job on each of four cores, each of which has a queue.
fio --name=verify --filename=/dev/nvme0n1 --rw=randwrite --bs=4k --size=4M --iodepth=32 --ioengine=libaio --direct=1 \
  --verify=crc32c --numjobs=4 --offset_increment=4M --cpus_allowed=0-3 --cpus_allowed_policy=split --output=/tmp/fio \
  || { cat /tmp/fio; exit 1; }
echo "verified, jobs without an error: $(grep -cE 'err= *0' /tmp/fio)"

# Away and back while it writes.
fio --name=load --filename=/dev/nvme0n1 --rw=write --bs=16k --size=32M --iodepth=32 --ioengine=libaio --direct=1 \
  --verify=crc32c --do_verify=1 --verify_backlog=512 --output=/tmp/fio &
load=$!
sleep 1
echo "restart the target"
wait $load || { cat /tmp/fio; exit 1; }
grep -E 'err= *0' /tmp/fio | head -1
dmesg | grep -c 'Successfully reconnected' | sed 's/^/reconnected: /'
disconnect
