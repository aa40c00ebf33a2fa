#!/bin/sh
# In the guest: `basalt nvme monitor` while the controller is taken away and another one is put in its place.
set -eu
basalt nvme monitor >/tmp/events 2>/tmp/said &
monitor=$!
says() { # FILE WORDS
  for _ in $(seq 300); do
    if grep "$2" "$1"; then return; fi
    sleep 0.1
  done
  echo "this was not said: $2"
  cat "$1"
  exit 1
}
says /tmp/said '^waiting'
says /tmp/events 'is gone'
says /tmp/events 'has appeared'
kill "$monitor"
basalt nvme list
