// Package ingest moves batches from JetStream into ClickHouse, each exactly
// once: it reads and decodes one block of them while the block before it is
// being inserted.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// Config bounds a block, the rows of one insert. Whichever limit is reached
// first ends it. A collector holds two blocks.
type Config struct {
	BlockRows     int           `yaml:"block_rows"`     // of flows, or of coverage
	BlockMessages int           `yaml:"block_messages"` // batches
	BlockBytes    int           `yaml:"block_bytes"`    // of the rows in memory, and of the batches as received
	BlockAge      time.Duration `yaml:"block_age"`      // from its first batch
	// MaxAhead and MaxAge bound the times in a batch around the time at which NATS
	// stored it; what lies outside goes to the dead letters. Rows of flows and
	// coverage must be kept for MaxAge at least (store.retention_days).
	MaxAhead time.Duration `yaml:"max_ahead"`
	MaxAge   time.Duration `yaml:"max_age"`
	// DrainTimeout bounds how long a stop waits for what was read to be stored.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// DefaultConfig returns blocks that make a part of a useful size every second
// under load.
func DefaultConfig() Config {
	return Config{
		BlockRows: 300_000, BlockMessages: 10_000, BlockBytes: 64 << 20, BlockAge: time.Second,
		MaxAhead: 10 * time.Minute, MaxAge: 7 * 24 * time.Hour, DrainTimeout: 8 * time.Second,
	}
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	switch {
	case c.BlockRows < 1 || c.BlockRows > 900_000: // ClickHouse splits larger blocks, and a token must cover one
		return errors.New("ingest.block_rows: must be from 1 to 900000")
	case c.BlockMessages < 1 || c.BlockMessages > 20_000: // their sequences must fit one message of NATS
		return errors.New("ingest.block_messages: must be from 1 to 20000")
	case c.BlockBytes < 1<<20:
		return errors.New("ingest.block_bytes: must be at least 1 MiB")
	case c.BlockAge < 10*time.Millisecond:
		return errors.New("ingest.block_age: must be at least 10ms")
	case c.MaxAhead < 0 || c.MaxAge < time.Minute:
		return errors.New("ingest.max_ahead: must not be negative, and max_age must be at least 1m")
	case c.MaxAge+c.MaxAhead > 90*24*time.Hour: // one partition a day, and a part for each that an insert touches
		return errors.New("ingest.max_age: must be at most 90 days together with max_ahead")
	case c.DrainTimeout < time.Second:
		return errors.New("ingest.drain_timeout: must be at least 1s")
	}
	return nil
}

// Store inserts a block under a token, and repeats until it is committed or ctx
// ends. The same block under the same token is stored once.
type Store interface {
	Write(ctx context.Context, b *sink.Block, token string) error
}

// Ingester is one active or standing-by collector.
type Ingester struct {
	Config  Config
	Streams consume.Config
	JS      jetstream.JetStream
	Store   Store
	Record  Record
	Metrics *Metrics
	Log     *slog.Logger

	trouble atomic.Pointer[error]
}

// shard names the ledger. All collectors of one stream share one: one of them
// is active and the others stand by.
const shard = "0"

// Run moves batches until ctx ends and what was read is stored, or
// DrainTimeout is over. It returns nil then; what was not stored stays in NATS.
func (g *Ingester) Run(ctx context.Context) error {
	for {
		err := g.session(ctx)
		if ctx.Err() != nil {
			if err != nil {
				g.Log.Warn("stopped before everything that was read is stored; it stays in nats", "error", err)
			}
			return nil
		}
		if err == nil {
			err = errors.New("the stream of messages ended")
		}
		g.trouble.Store(&err)
		g.Metrics.sessions.Inc()
		g.Log.Warn("ingest starts over; unacknowledged batches will come again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// Health returns why nothing is ingested at the moment, nil if it is, or if
// another collector does.
func (g *Ingester) Health() error {
	if err := g.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// session is the time between two losses of the ledger or the messages: it
// settles what the last one left, then runs the two halves of the pipeline.
func (g *Ingester) session(ctx context.Context) error {
	p := &pipe{
		Ingester: g, decoder: batch.NewDecoder(batch.Limits{MaxAhead: g.Config.MaxAhead, MaxAge: g.Config.MaxAge}),
		arrived: make(chan message), full: make(chan *load), free: make(chan *load, 2),
	}
	if err := p.open(ctx); err != nil {
		return err
	}
	messages, err := p.streams.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	g.trouble.Store(nil)

	// The committer outlives ctx by DrainTimeout.
	drain, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(g.Config.DrainTimeout, func() { cancel(errors.New("drain timeout")) })
		context.AfterFunc(drain, func() { timer.Stop() })
	})()

	group, groupCtx := errgroup.WithContext(drain)
	p.messages = messages
	p.free <- newLoad()
	p.free <- newLoad()
	defer context.AfterFunc(ctx, messages.Drain)()            // a stop: no new messages
	defer context.AfterFunc(groupCtx, messages.Stop)()        // a failure: none at all
	group.Go(func() error { return p.read(ctx, groupCtx) })   // JetStream → arrived
	group.Go(func() error { return p.fill(ctx, groupCtx) })   // arrived → full
	group.Go(func() error { return p.commit(ctx, groupCtx) }) // full → ClickHouse
	return group.Wait()
}
