package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/ledger"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
)

// worker moves the batches of one shard.
type worker struct {
	*Ingester
	Backend
	Log     *slog.Logger
	shard   consume.Shard
	line    *line
	trouble atomic.Pointer[error]

	// Of the keeper.
	stop    context.CancelFunc
	stopped bool
	done    chan struct{}
	empty   int // rounds in a row that found nothing in a shard of an earlier division
}

// run moves batches until ctx ends and what was read is stored, or DrainTimeout is
// over. What was not stored stays in NATS.
func (w *worker) run(ctx context.Context) {
	for {
		err := w.session(ctx)
		if ctx.Err() != nil {
			if err != nil {
				w.Log.Warn("stopped before everything that was read is stored; it stays in nats", "error", err)
			}
			return
		}
		if err == nil {
			err = errors.New("the stream of messages ended")
		}
		w.trouble.Store(&err)
		w.Metrics.sessions.Inc()
		w.Log.Warn("ingest starts over; unacknowledged batches will come again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// session is the time between two losses of the ledger or the messages: it
// settles what the last one left, then runs the two halves of the pipeline.
func (w *worker) session(ctx context.Context) error {
	p := &pipe{
		worker: w, decoder: batch.NewDecoder(batch.Limits{MaxAhead: w.Config.MaxAhead, MaxAge: w.Config.MaxAge}),
		arrived: make(chan message), full: make(chan *load), free: make(chan *load, 2), known: stored.Set{Sharers: w.shard.Of},
	}
	if err := p.open(ctx); err != nil {
		return err
	}
	p.began = p.reconnects()
	messages, err := p.queue.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	w.trouble.Store(nil)

	// The committer outlives ctx by DrainTimeout.
	drain, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(w.Config.DrainTimeout, func() { cancel(errors.New("drain timeout")) })
		context.AfterFunc(drain, func() { timer.Stop() })
	})()

	group, groupCtx := errgroup.WithContext(drain)
	p.messages = messages
	p.free <- newLoad(p.Enricher)
	p.free <- newLoad(p.Enricher)
	defer context.AfterFunc(ctx, messages.Drain)()            // a stop: no new messages
	defer context.AfterFunc(groupCtx, messages.Stop)()        // a failure: none at all
	group.Go(func() error { return p.read(ctx, groupCtx) })   // JetStream → arrived
	group.Go(func() error { return p.fill(ctx, groupCtx) })   // arrived → full
	group.Go(func() error { return p.commit(ctx, groupCtx) }) // full → ClickHouse
	err = group.Wait()
	if !errors.Is(err, ledger.ErrOvertaken) {
		p.release(context.WithoutCancel(ctx))
	}
	return err
}

// release lets the next session have the messages at once, here or at another
// collector. If that fails it has them after Standby.
func (p *pipe) release(ctx context.Context) {
	if p.pin == "" { // this session never had them
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := p.queue.Release(ctx); err != nil {
		p.Log.Debug("another session has the batches only after streams.standby", "error", err)
	}
}
