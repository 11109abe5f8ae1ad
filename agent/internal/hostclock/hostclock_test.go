package hostclock_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
)

func TestNowAgreesWithTheWallClock(t *testing.T) {
	before := time.Now()
	r, err := hostclock.Now()
	if err != nil {
		t.Fatal(err)
	}
	if r.Wall.Before(before.Add(-time.Millisecond)) || r.Wall.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("wall clock read as %v, it is about %v", r.Wall, before)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	if got := r.Time(ts.Nano()); time.Since(got).Abs() > time.Second {
		t.Errorf("the present converts to %v", got)
	}
}

func TestTimesBeforeAndAfterTheReadingConvert(t *testing.T) {
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := hostclock.Reading{Wall: wall, MonoNS: 10e9}
	for ns, want := range map[int64]time.Time{
		10e9:          wall,
		9e9:           wall.Add(-time.Second),
		10e9 + 123000: wall.Add(123 * time.Microsecond),
	} {
		if got := r.Time(ns); !got.Equal(want) {
			t.Errorf("%d ns is %v, want %v", ns, got, want)
		}
	}
}

func TestStepIsTheMoveBeyondElapsedTime(t *testing.T) {
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := hostclock.Reading{Wall: wall, MonoNS: 10e9}
	for _, c := range []struct {
		name string
		next hostclock.Reading
		want time.Duration
	}{
		{"five ordinary seconds", hostclock.Reading{Wall: wall.Add(5 * time.Second), MonoNS: 15e9}, 0},
		{"set forward by an hour", hostclock.Reading{Wall: wall.Add(5*time.Second + time.Hour), MonoNS: 15e9}, time.Hour},
		{"set back by a minute", hostclock.Reading{Wall: wall.Add(5*time.Second - time.Minute), MonoNS: 15e9}, -time.Minute},
		{"slept for a day: CLOCK_MONOTONIC stands still", hostclock.Reading{Wall: wall.Add(24 * time.Hour), MonoNS: 11e9}, 24*time.Hour - time.Second},
	} {
		if got := c.next.Step(first); got != c.want {
			t.Errorf("%s: step %v, want %v", c.name, got, c.want)
		}
	}
}
