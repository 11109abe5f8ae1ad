#!/bin/sh
# Install the tools that the lab plays traffic with, where they are missing:
# real scanners and floods, from Debian. Says nothing when all are there.
set -eu

missing=
need() { # command package
	command -v "$1" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ||
		missing="$missing $2"
}
need nmap nmap
need hping3 hping3

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "error: install$missing with this system's package manager" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "error: run as root, or install them yourself: apt-get install$missing" >&2
	exit 1
fi
echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of packages
apt-get install -y -q --no-install-recommends $missing >/dev/null 2>&1 || {
	apt-get update -q >&2
	apt-get install -y -q --no-install-recommends $missing >&2
}
