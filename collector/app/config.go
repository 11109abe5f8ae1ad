package app

import (
	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/ingest"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/config"
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

// Validate names the keys that are wrong.
func (c *Config) Validate() error {
	servers := len(c.ClickHouse.Cluster.Shards)
	return config.All(
		config.Under("nats", c.NATS.Validate()),
		config.At("listen", ops.CheckListen(c.Listen)),
		c.ClickHouse.Validate(), c.Streams.Validate(), c.Ingest.Validate(), c.Insert.Validate(), c.Enrich.Validate(),
		config.Wrong(servers > 0 && c.Streams.Shards%max(1, servers) != 0,
			"streams.shards: is %d, which is no multiple of the %d servers of clickhouse.cluster.shards: some would get more than others, or nothing", c.Streams.Shards, servers),
		c.Store.Validate(c.Ingest.MaxAge),
	)
}
