package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Lease lets one of several analyzers work at a time. It is a key that its
// holder rewrites; another takes it over when it has not changed for the time
// To Live by the other's own clock, so clocks need not agree.
//
// A holder that is paused (not killed) for longer than that works on beside its
// successor until it notices. Findings and marks are idempotent, so the worst
// outcome is doubled work.
type Lease struct {
	KV   jetstream.KeyValue
	Key  string
	Name string // of this holder, unique
	TTL  time.Duration
	Log  *slog.Logger
}

var errLost = errors.New("the lease is lost")

// Run waits for the lease, calls work with a context that ends when the lease is
// lost, waits for it, and begins anew, until ctx ends. Then it gives the lease
// back, so that a successor need not wait.
func (l *Lease) Run(ctx context.Context, work func(context.Context)) error {
	for ctx.Err() == nil {
		revision, err := l.acquire(ctx)
		if err != nil {
			return nil // ctx ended
		}
		l.hold(ctx, revision, work)
	}
	return nil
}

// acquire returns the revision under which this holder has the lease.
func (l *Lease) acquire(ctx context.Context) (uint64, error) {
	var (
		seen  uint64
		since time.Time
		said  string
	)
	for {
		revision, held, err := l.try(ctx, seen, !since.IsZero() && time.Since(since) > l.TTL)
		switch {
		case err != nil && ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			l.Log.Warn("waiting for the lease", "error", err)
		case held:
			l.Log.Info("holding the lease", "name", l.Name)
			return revision, nil
		case revision != seen:
			seen, since = revision, time.Now()
		}
		if err := sleep(ctx, l.TTL/5); err != nil {
			return 0, err
		}
	}
}

// try takes the lease if it is free, or if it is expired at the revision seen.
func (l *Lease) try(ctx context.Context, seen uint64, expired bool) (revision uint64, held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.TTL/2)
	defer cancel()
	entry, err := l.KV.Get(ctx, l.Key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		revision, err = l.KV.Create(ctx, l.Key, []byte(l.Name))
	case err != nil:
		return 0, false, fmt.Errorf("read lease: %w", err)
	case expired && entry.Revision() == seen:
		revision, err = l.KV.Update(ctx, l.Key, []byte(l.Name), seen)
	default:
		return entry.Revision(), false, nil
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, false, nil // another was faster
	}
	if err != nil {
		return 0, false, fmt.Errorf("take lease: %w", err)
	}
	return revision, true, nil
}

// hold renews the lease while work runs.
func (l *Lease) hold(ctx context.Context, revision uint64, work func(context.Context)) {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(working)
	}()
	renewed := time.Now()
	for working.Err() == nil {
		if sleep(working, l.TTL/4) != nil {
			break
		}
		try, cancel := context.WithTimeout(working, l.TTL/4)
		next, err := l.KV.Update(try, l.Key, []byte(l.Name), revision)
		cancel()
		switch {
		case err == nil:
			revision, renewed = next, time.Now()
		case working.Err() != nil:
		case errors.Is(err, jetstream.ErrKeyExists), time.Since(renewed) > 3*l.TTL/4:
			// Another has it, or may have it soon: stop before it starts.
			l.Log.Warn("lost the lease", "error", err)
			stop(errLost)
		}
	}
	<-done
	if ctx.Err() != nil && !errors.Is(context.Cause(working), errLost) {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := l.KV.Delete(release, l.Key, jetstream.LastRevision(revision)); err != nil {
			l.Log.Debug("the lease was not given back", "error", err)
		}
	}
}
