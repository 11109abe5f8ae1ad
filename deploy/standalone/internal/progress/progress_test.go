package progress

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStepIsShownAsLongAsItTakes(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		takes    time.Duration
		err      error
		want     string
	}{
		{"a fast step says nothing where lines stay", false, 900 * time.Millisecond, nil, ""},
		{"a slow step is a line every five seconds", false, 7500 * time.Millisecond, nil,
			"starting x … 1 s\nstarting x … 6 s\nstarting x: done in 7.5 s\n"},
		{"a failed step says so", false, 1500 * time.Millisecond, errors.New("no"),
			"starting x … 1 s\nstarting x: failed in 1.5 s\n"},
		{"a terminal shows one line that counts", true, 2500 * time.Millisecond, nil,
			"\r\x1b[Kstarting x … 1 s\r\x1b[Kstarting x … 2 s\r\x1b[Kstarting x: done in 2.5 s\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				r := &Reporter{out: &out, terminal: c.terminal}
				err := r.Step(t.Context(), "starting x", func(context.Context) error {
					time.Sleep(c.takes)
					return c.err
				})
				if !errors.Is(err, c.err) {
					t.Errorf("error %v, want %v", err, c.err)
				}
				if out.String() != c.want {
					t.Errorf("got %q, want %q", out.String(), c.want)
				}
			})
		})
	}
}
