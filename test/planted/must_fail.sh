#!/usr/bin/env bash
# must_fail.sh PROGRAM [ARGUMENT…]: succeeds if PROGRAM, a GoogleTest program, reports a failed test. To
# crash, to time out, or to find nothing to run is not that.
set -uo pipefail

output=$("$@" 2>&1)
status=$?
if [ "$status" = 1 ] && grep -q '^\[  FAILED  \]' <<<"$output"; then
  grep -m 1 -A 12 'Failure$' <<<"$output"
  exit 0
fi
tail -n 20 <<<"$output"
echo "no test failed (status $status)"
exit 1
