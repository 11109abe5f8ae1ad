// Package ingest moves batches from JetStream into ClickHouse, each exactly
// once: it reads and decodes one block of them while the block before it is
// being inserted.
package ingest

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config bounds a block, the rows of one insert. Whichever limit is reached
// first ends it. All blocks of a collector together hold twice the limits, however
// many shards it reads.
type Config struct {
	BlockRows     int           `yaml:"block_rows"`     // of flows, or of coverage
	BlockMessages int           `yaml:"block_messages"` // batches
	BlockBytes    int           `yaml:"block_bytes"`    // of the rows in memory, of their insert, and of the batches as received
	BlockAge      time.Duration `yaml:"block_age"`      // from its first batch
	// Inserts is how many are made at a time in each ClickHouse server, of different
	// shards. More use more of its cores, of blocks that are smaller by as much.
	Inserts int `yaml:"inserts"`
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
		BlockRows: 600_000, BlockMessages: 10_000, BlockBytes: 256 << 20, BlockAge: time.Second, Inserts: 1,
		MaxAhead: 10 * time.Minute, MaxAge: 7 * 24 * time.Hour, DrainTimeout: 8 * time.Second,
	}
}

// Validate names the keys that are wrong.
func (c Config) Validate() error {
	return config.All(
		config.Wrong(c.BlockRows < 1 || c.BlockRows > 900_000, "ingest.block_rows: must be from 1 to 900000"),           // ClickHouse splits larger blocks, and a token must cover one
		config.Wrong(c.BlockMessages < 1 || c.BlockMessages > 20_000, "ingest.block_messages: must be from 1 to 20000"), // their sequences must fit one message of NATS
		config.Wrong(c.BlockBytes < 1<<20 || c.BlockBytes > 1<<31, "ingest.block_bytes: must be from 1 MiB to 2 GiB"),   // ends of its names are 32 bits wide
		config.Wrong(c.BlockAge < 10*time.Millisecond, "ingest.block_age: must be at least 10ms"),
		config.Wrong(c.Inserts < 1 || c.Inserts > 64, "ingest.inserts: must be from 1 to 64"),
		config.Wrong(c.MaxAhead < 0 || c.MaxAge < time.Minute, "ingest.max_ahead: must not be negative, and max_age must be at least 1m"),
		config.Wrong(c.MaxAge+c.MaxAhead > 90*24*time.Hour, "ingest.max_age: must be at most 90 days together with max_ahead"), // one partition a day, and a part for each that an insert touches
		config.Wrong(c.DrainTimeout < time.Second, "ingest.drain_timeout: must be at least 1s"),
	)
}

// Store inserts a block under a token, and repeats until it is committed or ctx
// ends. The same block under the same token is stored once. Inserts of different
// shards may be made at a time.
type Store interface {
	Write(ctx context.Context, b *sink.Block, token string) error
	// Identity tells stores apart: what one has stored, another does not know.
	Identity(ctx context.Context) (string, error)
}

// Backend is one shard's way to the database.
type Backend struct {
	Server string // which one gets the inserts: those of one take turns
	Store  Store
	Record Record
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
	lines   map[string]*line // by server
	sharers atomic.Pointer[sharers]
}

// sharers are those that share the memory: so many workers, whose inserts go to so
// many servers.
type sharers struct{ workers, servers int }

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

// lineOf returns the line before a server. g.mu is held.
func (g *Ingester) lineOf(server string) *line {
	if g.lines == nil {
		g.lines = make(map[string]*line)
	}
	if g.lines[server] == nil {
		g.lines[server] = &line{inserts: g.Config.Inserts, enricher: g.Enricher}
	}
	return g.lines[server]
}

// limits returns the limits of a block that waits, and of one that is the first to
// wait or is inserted. Each shard has two of the former, which together hold half a
// block of the configured limits, each server Inserts+1 of the latter: in all two
// blocks. Where each shard has a server of its own, all are first.
func (g *Ingester) limits() (waiting, first Config) {
	n := sharers{1, 1}
	if s := g.sharers.Load(); s != nil {
		n = *s
	}
	inserts := min(g.Config.Inserts, (n.workers+n.servers-1)/n.servers) // no shard makes two at a time
	divide := func(of int) (w, f int) {
		w = of / (4 * n.workers)
		f = 2 * of
		if n.workers > n.servers {
			f -= 2 * n.workers * w
		}
		return max(1, w), max(1, f/(n.servers*(inserts+1)))
	}
	waiting, first = g.Config, g.Config
	waiting.BlockRows, first.BlockRows = divide(g.Config.BlockRows)
	waiting.BlockMessages, first.BlockMessages = divide(g.Config.BlockMessages)
	waiting.BlockBytes, first.BlockBytes = divide(g.Config.BlockBytes)
	return waiting, first
}
