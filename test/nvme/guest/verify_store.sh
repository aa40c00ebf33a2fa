#!/bin/sh
# In the guest, after load_store.sh was cut off: the store is sound, and has every key that was synced.
set -eu
controller=nvme:pci:${NVME_BDFS%% *}
basalt check "$controller/1"
LD_PRELOAD=/plugin.so db_bench --fs_uri="basalt://$controller/1" --db=/db --num=2000 --value_size=1000 \
  --use_existing_db=1 --benchmarks=readrandom,readseq --reads=2000 | tee /tmp/out
grep -q '(2000 of 2000 found)' /tmp/out
basalt check "$controller/1"
