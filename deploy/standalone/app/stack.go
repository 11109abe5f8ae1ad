package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/progress"
)

// part is one of the things that `up` runs.
type part struct {
	name string                      // as people call it
	run  func(context.Context) error // until its context ends
	// ready returns nil when the part works, or why it does not yet once its
	// context ends.
	ready func(context.Context) error
	// limit is how long the part may take to stop. What is not finished then is
	// finished at the next start.
	limit time.Duration
	// drained, if set, returns when what the part has handed on is stored.
	drained func(context.Context) error
}

// errEnded is the error of a part that returned although nobody stopped it.
var errEnded = errors.New("ended by itself")

// readyTimeout bounds the wait for a part before the next one starts. Parts
// wait for each other and retry, so a late one is worth a warning only.
const readyTimeout = 30 * time.Second

// runningPart is a part that was started. err may be read once done is closed.
type runningPart struct {
	part
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// stack starts parts in order and stops them in reverse. Its methods may not be
// called concurrently.
type stack struct {
	progress *progress.Reporter
	log      *slog.Logger
	running  []*runningPart
	failed   chan error // the first failure of a part
}

func newStack(p *progress.Reporter, log *slog.Logger) *stack {
	return &stack{progress: p, log: log, failed: make(chan error, 1)}
}

// start runs p until stop and waits until it is ready. It returns an error if a
// part fails, and nil if ctx ends before p is ready.
func (s *stack) start(ctx context.Context, p part) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the order of stopping is ours
	r := &runningPart{part: p, cancel: cancel, done: make(chan struct{})}
	s.running = append(s.running, r)
	go func() {
		defer close(r.done)
		r.err = p.run(own)
		if own.Err() != nil {
			return
		}
		err := r.err
		if err == nil {
			err = errEnded
		}
		select {
		case s.failed <- fmt.Errorf("%s: %w", p.name, err):
		default: // the first one is the cause
		}
	}()
	return s.progress.Step(ctx, "starting "+p.name, func(ctx context.Context) error { return s.awaitReady(ctx, p) })
}

func (s *stack) awaitReady(ctx context.Context, p part) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- p.ready(ctx) }()
	select {
	case err := <-s.failed:
		return err
	case err := <-ready:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.log.Warn("part is not ready yet, going on", "part", p.name, "reason", err, "waited", readyTimeout)
		}
		return nil
	}
}

// wait returns nil when ctx ends, or the error of the first part that fails.
func (s *stack) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// stop ends the parts, the last one first, each within its limit, and returns
// what went wrong.
func (s *stack) stop() error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		r := s.running[i]
		err := s.progress.Step(context.Background(), "stopping "+r.name, func(ctx context.Context) error { return stopPart(ctx, r) })
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", r.name, err))
		}
	}
	return errors.Join(errs...)
}

func stopPart(ctx context.Context, r *runningPart) error {
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(r.limit):
		return fmt.Errorf("still running after %s, left behind", r.limit)
	}
	if r.drained != nil {
		return r.drained(ctx)
	}
	return r.err
}
