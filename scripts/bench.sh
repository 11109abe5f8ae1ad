#!/usr/bin/env bash
# Runs the benchmark commands of every module and prints their figures, one JSON
# object {"name","value","unit"} a line, and nothing else, on standard output. The
# argument, if any, is the prefix of the names that are wanted.
set -euo pipefail

cd "$(dirname "$0")/.."
only=${1:-}
export EBBWATCH_BIN=${EBBWATCH_BIN:-$PWD/bin/ebbwatch}
mkdir -p bin
failed=0
while read -r main; do
	folder=${main%/main.go}
	binary=bin/bench-$(tr / - <<<"$folder")
	echo "benchmark $folder" >&2
	if ! go build -o "$binary" "./$folder" >&2 || ! "$binary" -only "$only"; then
		echo "benchmark $folder failed" >&2
		failed=1
	fi
done < <(git ls-files -co --exclude-standard -- '*/bench/main.go')
exit $failed
