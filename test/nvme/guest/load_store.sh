#!/bin/sh
# In the guest: makes a RocksDB database on the first namespace of the first controller with stock db_bench, says
# "synced" when 2000 keys are, goes on writing until the machine dies, and says "overwriting" once it does.
set -eu
controller=nvme:pci:${NVME_BDFS%% *}
basalt nvme list
basalt nvme identify "$controller"
for namespace in 1 2; do basalt bench "$controller/$namespace" randread --seconds 1; done

database() { # KEYS-OF-THE-URI ARGUMENT...
  uri=basalt://$controller/1$1
  shift
  LD_PRELOAD=/plugin.so db_bench --fs_uri="$uri" --db=/db --num=2000 --value_size=1000 "$@"
}
database '?create&force=1' --benchmarks=fillrandom,fillseq --sync=1
# A second store beside it, on the other namespace; the controller changes hands from process to process.
basalt mkfs --force "$controller/2"
head -c 1000000 /dev/urandom >/tmp/file
basalt put "$controller/2" /tmp/file /file
basalt cat "$controller/2" /file | cmp - /tmp/file
echo "synced"
database '' --use_existing_db=1 --benchmarks=overwrite --duration=600 >/tmp/output 2>&1 &
writer=$!
until grep -q finished /tmp/output; do
  kill -0 "$writer" || break
  sleep 0.1
done
echo "overwriting"
status=0
wait "$writer" || status=1  # by whatever it ends: Debian's librocksdb has assertions on, one of them for a failed log
tail -c 1000 /tmp/output
exit "$status"
