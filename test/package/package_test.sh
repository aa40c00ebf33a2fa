#!/usr/bin/env bash
# Goal: what `cmake --install` leaves is enough to build against, by find_package and by pkg-config,
# from any place the prefix is moved to.
# Method: install into a temporary prefix, move it, build a small program both ways, run it.
# usage: package_test.sh BUILD_DIRECTORY CXX_COMPILER
set -euo pipefail
build=$1 cxx=$2
consumer=$(cd "$(dirname "${BASH_SOURCE[0]}")/consumer" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
mv "$work/first" "$work/prefix"

for file in bin/basalt librocksdb_basalt.so; do
  [ -n "$(find "$work/prefix" -path "*/$file")" ] || { echo "$file was not installed"; exit 1; }
done
"$work/prefix/bin/basalt" --version

echo "== find_package(basalt)"
cmake -S "$consumer" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release >"$work/cmake.log" 2>&1 ||
  { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/build" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$work/build/consumer"
"$work/build/rocksdb_consumer"
"$work/build/nvme_consumer"

echo "== pkg-config basalt"
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name basalt.pc)")
export PKG_CONFIG_PATH
# The flags are words: shellcheck disable=SC2046 is what pkg-config is made for.
# shellcheck disable=SC2046
"$cxx" -std=c++20 "$consumer/consumer.cc" -o "$work/consumer" $(pkg-config --cflags --libs basalt)
"$work/consumer"
# shellcheck disable=SC2046
"$cxx" -std=c++20 "$consumer/nvme_consumer.cc" -o "$work/nvme_consumer" $(pkg-config --cflags --libs basalt-nvme)
"$work/nvme_consumer"
# shellcheck disable=SC2046
"$cxx" -std=c++20 "$consumer/rocksdb_consumer.cc" -o "$work/rocksdb_consumer" \
  $(pkg-config --cflags --libs basalt-rocksdb)
"$work/rocksdb_consumer"
