#!/usr/bin/env bash
# Runs a command, and says every few seconds that it still runs. Arguments: TEXT
# COMMAND...
set -euo pipefail

text=$1
shift
if ! command -v "$1" >/dev/null; then
	echo "$text needs $1, which is not on PATH: install it (Go: https://go.dev/doc/install)" >&2
	exit 1
fi
(
	for ((seconds = 1; ; seconds++)); do
		sleep 1 2>/dev/null # it may outlive us by that: it holds no output open
		if ((seconds % 5 == 1)); then echo "$text … $seconds s" >&2; fi
	done
) </dev/null >/dev/null &
watcher=$!
# The command stays in the foreground, where Ctrl-C reaches it.
status=0
"$@" || status=$?
kill "$watcher" 2>/dev/null || true
exit $status
