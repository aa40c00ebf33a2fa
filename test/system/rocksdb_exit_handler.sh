#!/bin/bash
# Goal: a store can be used from exit handlers. Method: see exit_handler_program.cc; the first run
# writes while it goes down, the second finds what it wrote.
#
#   rocksdb_exit_handler.sh <exit_handler_program>
set -euo pipefail

program=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
uri="basalt://file:$directory/store.img?create=256M"

"$program" "$uri" write
"$program" "$uri" verify
stats=$(BASALT_STATS=1 "$program" "$uri" verify 2>&1)
[[ $(grep -c '^basalt: file:.* unmounted: device_reads=' <<<"$stats") -eq 2 ]] ||
  { echo "expected two lines of counters, got: $stats"; exit 1; }
echo "exit handlers: passed"
