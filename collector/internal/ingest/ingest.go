// Package ingest moves batches from JetStream into ClickHouse, each exactly
// once: it reads and decodes one block of them while the block before it is
// being inserted.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
)

// Config bounds a block, the rows of one insert. Whichever limit is reached
// first ends it. A collector holds two blocks of each of its shards, which share
// the limits: with three shards each block has a third of them.
type Config struct {
	BlockRows     int           `yaml:"block_rows"`     // of flows, or of coverage
	BlockMessages int           `yaml:"block_messages"` // batches
	BlockBytes    int           `yaml:"block_bytes"`    // of the rows in memory, of their insert, and of the batches as received
	BlockAge      time.Duration `yaml:"block_age"`      // from its first batch
	// MaxAhead and MaxAge bound the times in a batch around the time at which NATS
	// stored it; what lies outside goes to the dead letters. Rows of flows and
	// coverage must be kept for MaxAge at least (store.retention_days).
	MaxAhead time.Duration `yaml:"max_ahead"`
	MaxAge   time.Duration `yaml:"max_age"`
	// DrainTimeout bounds how long a stop waits for what was read to be stored.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// DefaultConfig returns blocks of a second, and under load, when the block before
// is still being inserted, of up to 600,000 rows: merges cost more than inserts,
// and fewer and larger parts need fewer of them.
func DefaultConfig() Config {
	return Config{
		BlockRows: 600_000, BlockMessages: 10_000, BlockBytes: 256 << 20, BlockAge: time.Second,
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
	case c.BlockBytes < 1<<20 || c.BlockBytes > 1<<31: // ends of its names are 32 bits wide
		return errors.New("ingest.block_bytes: must be from 1 MiB to 2 GiB")
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
	// Identity tells stores apart: what one has stored, another does not know.
	Identity(ctx context.Context) (string, error)
}

// Backend is one shard's way to the database.
type Backend struct {
	Store  Store
	Record Record
	Close  func() // once nobody uses the others
}

// Ingester is one collector: it takes its share of the stream's shards.
type Ingester struct {
	Config  Config
	Streams consume.Config
	JS      jetstream.JetStream
	Connect func(consume.Shard) Backend
	// Enricher tells what is known of addresses and agents; nil: nothing.
	Enricher sink.Enricher
	Metrics  *Metrics
	Log      *slog.Logger

	mu      sync.Mutex
	trouble error
	workers map[consume.Shard]*worker
	sharers atomic.Int64 // how many workers share the memory
}

// Health returns why not everything that falls to this collector is ingested at
// the moment, nil if it is.
func (g *Ingester) Health() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trouble != nil {
		return g.trouble
	}
	for _, w := range g.workers {
		if err := w.trouble.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// limits returns the limits of one block.
func (g *Ingester) limits() Config {
	c, n := g.Config, int(max(1, g.sharers.Load()))
	c.BlockRows, c.BlockMessages, c.BlockBytes = max(1, c.BlockRows/n), max(1, c.BlockMessages/n), c.BlockBytes/n
	return c
}
