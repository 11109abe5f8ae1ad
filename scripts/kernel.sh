#!/usr/bin/env bash
# Runs the agent's tests on another Linux kernel, in qemu: Debian's 6.1, unless
# the environment says otherwise. It installs qemu, and nothing else: the
# kernel's package is unpacked into the cache (~/.cache/ebbwatch/kernel).
#
#   scripts/kernel.sh                                            Debian's cloud kernel, 6.1
#   KERNEL_PACKAGE=linux-image-6.12-cloud-amd64 scripts/kernel.sh   another package of Debian's
#   KERNEL_IMAGE=/boot/vmlinuz-5.15.0-1-generic \
#   KERNEL_MODULES=/lib/modules/5.15.0-1-generic scripts/kernel.sh  any kernel with BPF, BTF and serial console
#   KERNEL_ARCH=arm64 scripts/kernel.sh                          the arm64 objects, on Debian's arm64 kernel
#   KERNEL_ACCEL=kvm scripts/kernel.sh                           not by software emulation
#   KERNEL_APPEND=preempt=full scripts/kernel.sh                 more words on the kernel's command line
#   KERNEL_ONLY=agent/internal/flowbpf KERNEL_RUN=TestScan scripts/kernel.sh -v
#
# Arguments go to the command: see scripts/kernel.sh --help. Exit status 3 means
# that nothing could be run.
set -euo pipefail

cd "$(dirname "$0")/.."
case ${KERNEL_ARCH:-$(uname -m)} in
arm64 | aarch64) qemu='qemu-system-aarch64:qemu-system-arm' ;;
*) qemu='qemu-system-x86_64:qemu-system-x86' ;;
esac
scripts/setup-packages.sh "$qemu" xz:xz-utils || exit 3
mkdir -p bin
CGO_ENABLED=0 go build -trimpath -o bin/kernel ./scripts/kernel
exec bin/kernel "$@"
