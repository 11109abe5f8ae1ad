#!/usr/bin/env bash
# Builds the pinned golangci-lint into the user's cache, unless it is there, and
# prints its path on standard output.
set -euo pipefail

readonly version=2.15.0
cache=${EBBWATCH_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or EBBWATCH_CACHE}/.cache}/ebbwatch}
target=$cache/golangci-lint-$version/golangci-lint
if [[ ! -x $target ]]; then
	command -v go >/dev/null || {
		echo "setup-lint: go is missing: install Go 1.26 or later" >&2
		exit 1
	}
	# Beside the target and then renamed: a broken build leaves nothing behind.
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.golangci-lint.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	GOWORK=off GOFLAGS='' GOBIN="$work" "$(dirname "$0")/progress.sh" "building golangci-lint $version" \
		go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version" >&2
	mkdir -p "${target%/*}"
	mv "$work/golangci-lint" "$target"
fi
echo "$target"
