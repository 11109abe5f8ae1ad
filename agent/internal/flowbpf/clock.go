package flowbpf

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock converts the kernel's monotonic times to wall time. Take a new one for
// every drain: wall time is stepped and slewed, monotonic time is not.
type Clock struct{ offsetNS int64 }

// NewClock reads both clocks.
func NewClock() Clock {
	mono := MonotonicNS()
	return Clock{offsetNS: time.Now().UnixNano() - mono}
}

// Wall returns the wall time of a CLOCK_MONOTONIC time.
func (c Clock) Wall(monotonicNS int64) time.Time { return time.Unix(0, monotonicNS+c.offsetNS) }

// MonotonicNS returns CLOCK_MONOTONIC, the clock of Entry's times.
func MonotonicNS() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot happen: the clock exists since Linux 2.6
	}
	return ts.Nano()
}
