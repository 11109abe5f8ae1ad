#!/bin/sh
# Checks that the committed BPF objects are what the pinned compiler makes of
# bpf/, byte for byte, and that the sources are formatted and say their licence.
# With --write it replaces the objects instead. Needs Go and Debian 12's clang,
# clang-format, llvm, libbpf-dev and linux-libc-dev.
set -eu

cd "$(dirname "$0")/.."
objects=agent/internal/flowbpf/objects
pinned=14

for tool in clang-$pinned llvm-strip-$pinned clang-format-$pinned go; do
	if ! command -v "$tool" >/dev/null; then
		echo "check-bpf: $tool is missing: apt-get install clang-$pinned clang-format-$pinned llvm-$pinned libbpf-dev" >&2
		exit 2
	fi
done

if [ "${1:-}" = --write ]; then
	(cd "$objects" && go generate .)
	exit 0
fi

failed=0
sources=$(find bpf -name '*.[ch]')
for file in $sources; do
	if ! head -n 1 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause'; then
		echo "check-bpf: $file does not name its licence on line 1" >&2
		failed=1
	fi
done
# shellcheck disable=SC2086 # names of ours, without spaces
if ! clang-format-$pinned --dry-run --Werror $sources; then
	echo "check-bpf: run clang-format-$pinned -i on the files above" >&2
	failed=1
fi

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
trap 'exit 130' INT TERM
if ! (cd "$objects" && BPF_OUT="$made" go generate .) >"$made/log" 2>&1; then
	cat "$made/log" >&2
	exit 1
fi
for file in "$objects"/*_bpfel.*; do
	if ! cmp "$file" "$made/$(basename "$file")"; then
		echo "check-bpf: $file is stale: run scripts/check-bpf.sh --write and commit" >&2
		failed=1
	fi
done
[ $failed = 0 ] && echo "check-bpf: objects match bpf/"
exit $failed
