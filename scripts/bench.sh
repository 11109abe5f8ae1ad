#!/usr/bin/env bash
# Runs the benchmarks of every module and prints their figures, one JSON object
# {"name","value","unit"} a line, and nothing else, on standard output. The
# argument, if any, is the prefix of the names that are wanted.
set -euo pipefail

cd "$(dirname "$0")/.."
only=${1:-}
for bench in agent/internal/flowbpf/bench agent/internal/bench collector/internal/bench analyzer/internal/bench deploy/standalone/internal/bench; do
	binary=bin/bench-$(tr / - <<<"${bench%/bench}")
	go build -o "$binary" "./$bench" >&2
	"$binary" -only "$only"
done
