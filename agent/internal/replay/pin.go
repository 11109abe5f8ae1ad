package replay

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Pin keeps the calling goroutine on one CPU, and returns what lets
// it go: flow entries belong to a CPU, so on one there is one entry for each
// conversation. Where it is not allowed, the drain merges what CPUs counted.
func Pin() (release func()) {
	runtime.LockOSThread()
	release = runtime.UnlockOSThread
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return release
	}
	cpu := -1
	for i := range len(before) * 64 { // the highest: interrupts often go to the lowest
		if before.IsSet(i) {
			cpu = i
		}
	}
	if cpu < 0 {
		return release
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return release
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &before) // at worst it stays on its CPU
		runtime.UnlockOSThread()
	}
}
