#!/usr/bin/env bash
# Checks the code of the modules given: golangci-lint, each module alone
# (GOWORK=off), shellcheck, and that generated BPF objects are current.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
scripts/setup-packages.sh shellcheck:shellcheck
linter=$(scripts/setup-lint.sh)
# As in the Makefile, so that what was compiled there need not be compiled again.
export CGO_ENABLED=0 GOFLAGS=-trimpath
failed=0
step() { printf '%s … ' "$1" >&2; }
verdict() { if (($1)); then echo "failed" >&2; failed=1; else echo "ok" >&2; fi; }
# run NAME FOLDER COMMAND...: shows the output only if the command fails.
run() {
	local name=$1 folder=$2 output status=0
	shift 2
	step "$name"
	output=$(cd "$root/$folder" && "$@" 2>&1) || status=$?
	verdict $status
	((status == 0)) || echo "$output" >&2
}

for module in "$@"; do
	# In the workspace a service could import another's package unnoticed.
	run "build $module alone" "$module" env GOWORK=off go build ./...
	run "vet $module alone" "$module" env GOWORK=off go vet ./...
	run "lint $module" "$module" "$linter" run --allow-serial-runners --config "$root/.golangci.yaml" ./...
done
mapfile -t shell < <(git ls-files -co --exclude-standard -- '*.sh' .ci/run)
run "shellcheck" . shellcheck "${shell[@]}"
# The objects are what the sources make, and the sources are formatted.
scripts/setup-packages.sh clang-14:clang-14 llvm-strip-14:llvm-14 clang-format-14:clang-format-14 /usr/include/bpf/bpf_helpers.h:libbpf-dev
run "bpf" . scripts/check-bpf.sh
exit $failed
