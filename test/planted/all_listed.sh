#!/usr/bin/env bash
# Each planted("defect") in the sources has a test in CMakeLists.txt and a line in README.md, and the other
# way round.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

in_sources=$(grep -rhoE 'planted\("[a-z_]+"\)' --include='*.cc' ../../src ../../blobfs | cut -d '"' -f 2 | sort -u)
in_tests=$(sed -nE 's/^must_catch\(([a-z_]+) .*/\1/p' CMakeLists.txt | sort -u)
in_readme=$(grep -E '^\|' README.md | grep -oE '`[a-z_]+`' | tr -d '\`' | sort -u)
[ -n "$in_sources" ]
diff <(echo "$in_sources") <(echo "$in_tests") >&2 || { echo "sources and CMakeLists.txt differ" >&2; exit 1; }
diff <(echo "$in_sources") <(echo "$in_readme") >&2 || { echo "sources and README.md differ" >&2; exit 1; }
echo "$(wc -w <<<"$in_sources") defects"
