#!/usr/bin/env bash
# Tests the modules given: installs what the tests need, then tests with the race
# detector, vet and linters.
set -euo pipefail

cd "$(dirname "$0")/.."
started=$SECONDS
step() { echo "== $* (at $((SECONDS - started)) s)" >&2; }

step "set up"
scripts/setup-packages.sh nmap:nmap hping3:hping3 iperf3:iperf3 ip:iproute2 ping:iputils-ping gcc:gcc tshark:tshark nfdump:nfdump
scripts/setup-clickhouse.sh >/dev/null
make --no-print-directory build

step "test"
# Tests start themselves again many times, and by default each such process
# waits a second at its end for the race detector.
export GORACE=atexit_sleep_ms=20
# At the top, ./... would be the root module alone; work is all of them.
timeout --foreground 1800 go test -race -timeout 15m work
step "chaos"
timeout --foreground 300 scripts/chaos.sh -kills 6 -pause 2s
step "power cuts"
status=0
timeout --foreground 300 scripts/chaos.sh -kills 4 -pause 2s -power -victims nats,clickhouse,host || status=$?
if ((status == 3)); then # not every runner has loop devices
	echo "SKIPPED the power cuts: they need root, loop devices and mkfs.ext4" >&2
elif ((status)); then
	exit "$status"
fi
step "test on Linux 6.1"
status=0
timeout --foreground 400 scripts/kernel.sh --quick || status=$?
if ((status == 3)) && [[ ${CI:-} != true ]]; then
	echo "skipped the tests on Linux 6.1: the kernel cannot be run here" >&2
elif ((status)); then
	exit "$status"
fi
step "lint"
scripts/lint.sh "$@"
step "passed"
