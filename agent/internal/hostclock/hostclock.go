// Package hostclock turns the kernel's monotonic time stamps into wall-clock time.
package hostclock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Reading is one look at both clocks: at wall-clock time Wall, CLOCK_MONOTONIC
// (the clock of bpf_ktime_get_ns) showed MonoNS nanoseconds.
//
// Times that are converted with one reading keep their distances, whatever
// happens to the wall clock. A clock that was stepped, or a host that slept,
// shows in the next reading: take one per drain, and everything from that drain
// stands in the time that the host now holds to be right.
type Reading struct {
	Wall   time.Time
	MonoNS int64
}

// Now reads both clocks. The two readings are at most a few microseconds apart,
// unless the machine is so busy that three tries in a row are interrupted.
func Now() (Reading, error) {
	var best Reading
	spread := time.Duration(1<<63 - 1)
	for range 3 {
		before, err := read(unix.CLOCK_MONOTONIC)
		if err != nil {
			return Reading{}, err
		}
		wall, err := read(unix.CLOCK_REALTIME)
		if err != nil {
			return Reading{}, err
		}
		after, err := read(unix.CLOCK_MONOTONIC)
		if err != nil {
			return Reading{}, err
		}
		if d := time.Duration(after - before); d < spread {
			spread = d
			best = Reading{Wall: time.Unix(0, wall).UTC(), MonoNS: before + (after-before)/2}
		}
	}
	return best, nil
}

func read(clock int32) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read clock %d: %w", clock, err)
	}
	return ts.Nano(), nil
}

// Time returns the wall-clock time of the monotonic time ns, which may lie
// before or after the reading.
func (r Reading) Time(ns int64) time.Time {
	return r.Wall.Add(time.Duration(ns - r.MonoNS))
}

// Step returns how far the wall clock was moved between an earlier reading and
// r, beyond the time that passed: positive if it was set forward. Gradual
// adjustment by NTP shows as well: it stays below 500 µs a second.
func (r Reading) Step(earlier Reading) time.Duration {
	return r.Wall.Sub(earlier.Wall) - time.Duration(r.MonoNS-earlier.MonoNS)
}
