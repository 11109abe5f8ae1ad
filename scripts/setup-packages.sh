#!/usr/bin/env bash
# Installs Debian packages where their commands (or files) are missing, and says
# nothing when all are there. Arguments: COMMAND:PACKAGE... or /FILE:PACKAGE...
set -euo pipefail

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=()
for pair in "$@"; do
	[[ $pair == /* && -e ${pair%%:*} ]] || command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
((${#missing[@]})) || exit 0
if ! command -v apt-get >/dev/null; then
	echo "setup-packages: install ${missing[*]} with this system's package manager" >&2
	exit 1
fi
if ((EUID != 0)); then
	echo "setup-packages: run as root, or install them yourself: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
# The package lists may be older than the packages on the mirror.
install || { apt-get update -q >>"$log" 2>&1 && install; } || {
	tail -n 5 "$log" >&2
	echo "setup-packages: apt-get could not install ${missing[*]}" >&2
	exit 1
}
