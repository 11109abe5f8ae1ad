package app

import (
	"fmt"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/ingest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// Config is the configuration of a collector.
type Config struct {
	NATS       natsconn.Config `yaml:"nats"`
	ClickHouse chconn.Config   `yaml:"clickhouse"`
	Store      schema.Config   `yaml:"store"`
	Listen     string          `yaml:"listen"` // host:port of /metrics and /healthz, "" for none
	Streams    consume.Config  `yaml:"streams"`
	Ingest     ingest.Config   `yaml:"ingest"`
	Insert     sink.Config     `yaml:"insert"`
	Enrich     enrich.Config   `yaml:"enrich"`
}

// DefaultConfig returns the configuration of a collector whose NATS server and
// ClickHouse run on this host.
func DefaultConfig() Config {
	return Config{
		NATS: natsconn.DefaultConfig(), ClickHouse: chconn.DefaultConfig(), Store: schema.DefaultConfig(), Listen: "127.0.0.1:8462",
		Streams: consume.DefaultConfig(), Ingest: ingest.DefaultConfig(), Insert: sink.DefaultConfig(), Enrich: enrich.DefaultConfig(),
	}
}

// Validate names the first key that is wrong.
func (c *Config) Validate() error {
	if err := c.NATS.Validate(); err != nil {
		return fmt.Errorf("nats.%w", err)
	}
	if err := ops.CheckListen(c.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for _, part := range []interface{ Validate() error }{c.ClickHouse, c.Streams, c.Ingest, c.Insert, &c.Enrich} {
		if err := part.Validate(); err != nil {
			return err
		}
	}
	if n := len(c.ClickHouse.Cluster.Shards); n > 0 && c.Streams.Shards%n != 0 {
		return fmt.Errorf("streams.shards: is %d, which is no multiple of the %d servers of clickhouse.cluster.shards: some would get more than others, or nothing", c.Streams.Shards, n)
	}
	return c.Store.Validate(c.Ingest.MaxAge)
}
