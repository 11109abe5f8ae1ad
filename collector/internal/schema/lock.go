package schema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// LockBucket is the JetStream KV bucket of the lock.
const LockBucket = "EBBWATCH_MIGRATION"

const lockKey = "lock"

// ErrLockLost ends the context of a migration whose lock expired.
var ErrLockLost = errors.New("the lock of the migrations was lost")

// KVLock is a Locker on a key that expires unless its holder renews it. Should
// the holder stall for longer than TTL, two collectors may migrate at once for
// a moment; that is harmless, because every step is idempotent.
type KVLock struct {
	JS     jetstream.JetStream
	Holder string        // for the logs of those who wait
	TTL    time.Duration // after it, the lock of a holder that died is free
	Log    *slog.Logger
	// Replicas of the key in a NATS cluster; 0 is as many as the stream of batches has.
	Replicas int
}

// Lock implements Locker.
func (l *KVLock) Lock(ctx context.Context) (context.Context, func(), error) {
	kv, err := natsconn.EnsureKeyValue(ctx, l.JS, jetstream.KeyValueConfig{
		Bucket: LockBucket, Description: "Ebbwatch: who migrates the database", TTL: l.TTL, History: 1, Replicas: l.Replicas,
	})
	if err != nil {
		return nil, nil, err
	}
	revision, err := l.acquire(ctx, kv)
	if err != nil {
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		l.renew(held, kv, revision, stop, cancel)
	}()
	return held, func() {
		close(stop)
		<-stopped
		cancel(nil)
	}, nil
}

// acquire waits until it creates the key and returns its revision.
func (l *KVLock) acquire(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for waiting := false; ; waiting = true {
		revision, err := kv.Create(ctx, lockKey, []byte(l.Holder))
		if err == nil {
			return revision, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return 0, fmt.Errorf("take the lock: %w", err)
		}
		if !waiting {
			l.Log.Info("another collector migrates the database, waiting for it")
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-poll.C:
		}
	}
}

// renew keeps the key alive until stop is closed, then deletes it. When it
// cannot be renewed within TTL, it ends the migration.
func (l *KVLock) renew(ctx context.Context, kv jetstream.KeyValue, revision uint64, stop <-chan struct{}, lost context.CancelCauseFunc) {
	tick := time.NewTicker(l.TTL / 4)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-stop:
			// The migration's context may have ended; the lock is given back regardless.
			bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := kv.Delete(bye, lockKey, jetstream.LastRevision(revision)); err != nil {
				l.Log.Warn("cannot give the lock back, it expires by itself", "error", err)
			}
			return
		case <-tick.C:
		}
		next, err := kv.Update(ctx, lockKey, []byte(l.Holder), revision)
		switch {
		case err == nil:
			revision, renewed = next, time.Now()
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch) || time.Since(renewed) > l.TTL:
			lost(fmt.Errorf("%w: %w", ErrLockLost, err))
			return
		}
	}
}
