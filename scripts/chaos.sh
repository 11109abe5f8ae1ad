#!/usr/bin/env bash
# Kills collectors, the NATS server and ClickHouse under load and counts what is
# stored; with -power it cuts the power of their disks, as root. Arguments go to collector/internal/chaostest (-h lists them).
set -euo pipefail

cd "$(dirname "$0")/.."
export EBBWATCH_BIN=${EBBWATCH_BIN:-$PWD/bin/ebbwatch}
mkdir -p bin
go build -o bin/chaos ./collector/internal/chaostest
go build -o bin/chaos-fleet ./agent/internal/fleettest
go build -tags failpoints -o bin/chaos-collector ./collector # what is shipped has no failpoints
exec bin/chaos -collector bin/chaos-collector -fleet bin/chaos-fleet "$@"
