#!/bin/sh
# In the guest: `basalt` on three controllers: one namespace with protection information, which holds a store; one with
# zones; one without anything.
set -eu
# The addresses are words.
# shellcheck disable=SC2086
set -- $NVME_BDFS
protected=nvme:pci:$1 zoned=nvme:pci:$2 plain=nvme:pci:$3
must_fail() { # WORDS-OF-THE-ERROR COMMAND...
  words=$1
  shift
  if "$@" >/tmp/out 2>&1; then
    echo "this should have failed: $*"
    exit 1
  fi
  grep -q "$words" /tmp/out || {
    cat /tmp/out
    exit 1
  }
}

basalt nvme identify "$protected/1" | grep -E '^(dps|lbafs)|in use'
head -c 5000000 /dev/urandom >/tmp/file
basalt mkfs --force "$protected/1"
basalt put "$protected/1" /tmp/file /file
basalt cat "$protected/1" /file | cmp - /tmp/file
basalt check "$protected/1" >/dev/null
# Block 0 is written: read once with its reference tag, and once with another.
read_block_0() {
  basalt nvme io-passthru "$protected/1" --opcode 2 --cdw12 0x34000000 --cdw14 "$1" --data-len 4096 --raw-binary
}
test "$(read_block_0 0 | wc -c)" = 4096
must_fail 'invalid protection information\|reference tag check error' read_block_0 7
echo "protected"

basalt nvme zones "$zoned/1" | head -2
basalt nvme zone "$zoned/1" --start-lba 0 --action finish
basalt nvme zones "$zoned/1" | grep -q '^slba: 0 .*full$'
must_fail 'say --force' basalt nvme zone "$zoned/1" --start-lba 0 --action reset
basalt nvme zone "$zoned/1" --start-lba 0 --action reset --force
basalt nvme zones "$zoned/1" | grep -q '^slba: 0 .*empty$'
must_fail 'is zoned' basalt mkfs "$zoned/1"
must_fail 'has no zones' basalt nvme zones "$plain/1"
echo "zoned"

test "$(basalt nvme list-ns "$plain")" = 1
test "$(basalt nvme list-ns --all "$plain")" = 1
basalt nvme fw-log "$plain"
basalt nvme get-feature "$plain" --feature-id 6
basalt nvme set-feature "$plain" --feature-id 4 --value 340
# Without a subsystem QEMU's namespaces stay where they are, and it has neither of the others.
must_fail 'invalid field' basalt nvme detach-ns "$plain/1"
must_fail 'invalid' basalt nvme sanitize "$plain" --force
must_fail 'invalid' basalt nvme fw-commit "$plain" --slot 3
echo "plain"
