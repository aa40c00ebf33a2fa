#!/bin/sh
# In a guest whose kernel has it: basalt against Linux's target with DH-HMAC-CHAP: one way and both, without and with a
# Diffie-Hellman exchange, and with wrong secrets.
set -eu
nqn=nqn.2014-08.org.example:disk
host=nqn.2014-08.org.example:host
address=127.0.0.1:4420
nvmet=/sys/kernel/config/nvmet
host_secret=DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:
controller_secret=DHHC-1:01:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:
echo $host_secret >/tmp/host
echo $controller_secret >/tmp/controller
echo DHHC-1:02:MDc+RUxTWmFob3Z9hIuSmaCnrrW8w8rR2N/m7fT7AgkQFx4lLDM6QUhPVl1ka3J51wkKvA==: >/tmp/wrong
mount -t configfs configfs /sys/kernel/config
mkdir "$nvmet/subsystems/$nqn" "$nvmet/subsystems/$nqn/namespaces/1" "$nvmet/hosts/$host" "$nvmet/ports/1"
ln -s "$nvmet/hosts/$host" "$nvmet/subsystems/$nqn/allowed_hosts/$host"
echo /dev/nullb0 >"$nvmet/subsystems/$nqn/namespaces/1/device_path"
echo 1 >"$nvmet/subsystems/$nqn/namespaces/1/enable"
echo tcp >"$nvmet/ports/1/addr_trtype"
echo ipv4 >"$nvmet/ports/1/addr_adrfam"
echo 127.0.0.1 >"$nvmet/ports/1/addr_traddr"
echo 4420 >"$nvmet/ports/1/addr_trsvcid"
ln -s "$nvmet/subsystems/$nqn" "$nvmet/ports/1/subsystems/$nqn"
echo $host_secret >"$nvmet/hosts/$host/dhchap_key"

disk="nvme:tcp:$address/$nqn/1?hostnqn=$host"
refused() { # URI: opening it must fail for want of a secret
  if basalt bench "$1" randread --seconds 1 >/tmp/out 2>&1; then
    echo "accepted: $1"
    exit 1
  fi
  grep -iE 'authenticat|secret' /tmp/out
}
head -c 3000000 /dev/urandom >/tmp/file
for hash in 'hmac(sha256)' 'hmac(sha384)' 'hmac(sha512)'; do
  for group in null ffdhe2048 ffdhe3072; do
    echo "$hash" >"$nvmet/hosts/$host/dhchap_hash"
    echo "$group" >"$nvmet/hosts/$host/dhchap_dhgroup"
    basalt mkfs --force "$disk&dhchap_secret_file=/tmp/host"
    basalt put "$disk&dhchap_secret_file=/tmp/host" /tmp/file /file
    basalt cat "$disk&dhchap_secret_file=/tmp/host&data_digest" /file | cmp - /tmp/file
    echo "authenticated: $hash $group"
  done
done
refused "$disk"
refused "$disk&dhchap_secret_file=/tmp/wrong"
refused "$disk&dhchap_secret_file=/tmp/host&dhchap_ctrl_secret_file=/tmp/controller"  # the target has none yet
echo $controller_secret >"$nvmet/hosts/$host/dhchap_ctrl_key"
basalt cat "$disk&dhchap_secret_file=/tmp/host&dhchap_ctrl_secret_file=/tmp/controller" /file | cmp - /tmp/file
echo "authenticated both ways"
refused "$disk&dhchap_secret_file=/tmp/host&dhchap_ctrl_secret_file=/tmp/wrong"
echo "done"
