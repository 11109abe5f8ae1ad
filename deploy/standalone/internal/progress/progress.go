// Package progress tells a person what takes its time.
package progress

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	quiet    = time.Second     // what is faster is not worth a line
	interval = 5 * time.Second // between lines where they cannot be overwritten
)

// Reporter writes progress. On a terminal a running step is one line that
// counts; elsewhere it is a line every few seconds.
type Reporter struct {
	out      io.Writer
	terminal bool
	mu       sync.Mutex
}

// New returns a reporter on out.
func New(out *os.File) *Reporter {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &Reporter{out: out, terminal: err == nil}
}

// Line writes a line.
func (r *Reporter) Line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// Step runs work and shows for how long once that is longer than a second. It
// returns the error of work; name is like "starting ClickHouse".
func (r *Reporter) Step(ctx context.Context, name string, work func(context.Context) error) error {
	started := time.Now()
	finished, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		r.watch(name, started, finished)
	}()
	err := work(ctx)
	close(finished)
	<-stopped
	elapsed := time.Since(started)
	if elapsed >= quiet || r.terminal {
		result := "done"
		if err != nil {
			result = "failed"
		}
		r.Line("%s%s: %s in %.1f s", r.home(), name, result, elapsed.Seconds())
	}
	return err
}

// home returns what takes the cursor to the start of an empty line.
func (r *Reporter) home() string {
	if r.terminal {
		return "\r\x1b[K"
	}
	return ""
}

func (r *Reporter) watch(name string, started time.Time, finished <-chan struct{}) {
	next := quiet
	for {
		select {
		case <-finished:
			return
		case <-time.After(time.Until(started.Add(next))):
		}
		r.mu.Lock()
		if r.terminal {
			fmt.Fprintf(r.out, "\r\x1b[K%s … %d s", name, int(time.Since(started).Seconds()))
			next += quiet
		} else {
			fmt.Fprintf(r.out, "%s … %d s\n", name, int(time.Since(started).Seconds()))
			next += interval
		}
		r.mu.Unlock()
	}
}
