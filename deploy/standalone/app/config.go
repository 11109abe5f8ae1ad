package app

import (
	"path/filepath"
	"time"

	agent "github.com/ebbwatch/ebbwatch/agent/app"
	analyzer "github.com/ebbwatch/ebbwatch/analyzer/app"
	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config is the configuration of a standalone Ebbwatch, which connects its parts
// itself (Preset).
type Config struct {
	DataDir    string           `yaml:"data_dir"`    // folder that holds everything that is kept
	SyncAlways bool             `yaml:"sync_always"` // nats.sync_always and clickhouse.sync_always: a power cut loses nothing that NATS or the store has answered for; slower
	NATS       natsd.Config     `yaml:"nats"`        // the NATS server in this process
	ClickHouse engine.Config    `yaml:"clickhouse"`  // the local store
	Agent      agent.Config     `yaml:"agent"`
	Collector  collector.Config `yaml:"collector"`
	Analyzer   analyzer.Config  `yaml:"analyzer"`
}

// DefaultConfig returns the configuration of `ebbwatch up` without a file.
func DefaultConfig() Config {
	return Config{
		DataDir: "/var/lib/ebbwatch", NATS: natsd.DefaultConfig(), ClickHouse: engine.DefaultConfig(),
		Agent: agent.DefaultConfig(), Collector: collector.DefaultConfig(), Analyzer: analyzer.DefaultConfig(),
	}
}

// maxInserts bounds collector.ingest.inserts: each has a connection, of the 50 that the
// engine takes where it has little memory, and half of them are for readers.
const maxInserts = 16

// Validate names the keys that cannot be used.
func (c *Config) Validate() error {
	return config.All(
		config.Wrong(c.DataDir == "", "data_dir: names no folder: name one, or leave it out for %s", DefaultConfig().DataDir),
		config.Under("nats", c.NATS.Validate()),
		config.Under("clickhouse", c.ClickHouse.Validate()),
		config.Under("agent", c.Agent.Validate()),
		config.Under("collector", c.Collector.Validate()),
		config.Wrong(c.Collector.Ingest.Inserts > maxInserts, "collector.ingest.inserts: must be at most %d here: the store has few connections, and others need some", maxInserts),
		config.Under("analyzer", c.Analyzer.Validate()),
	)
}

// Complete implements config.Completer: what suits one host, and what leaves
// room for the order in which `up` stops.
func (c *Config) Complete() {
	if dir, err := filepath.Abs(c.DataDir); err == nil && c.DataDir != "" { // else Validate, or whoever opens it, says what is wrong
		c.DataDir = dir
	}
	if c.Agent.Spool.Dir == agent.DefaultConfig().Spool.Dir {
		c.Agent.Spool.Dir = filepath.Join(c.DataDir, "agent", "spool")
	}
	if c.SyncAlways {
		c.NATS.SyncAlways, c.ClickHouse.SyncAlways = true, true
	}
	c.Agent.FlushTimeout = min(c.Agent.FlushTimeout, agentLimit-300*time.Millisecond)
	c.Collector.Ingest.DrainTimeout = min(c.Collector.Ingest.DrainTimeout, collectorLimit-300*time.Millisecond)
	if c.Collector.ClickHouse.Compression == collector.DefaultConfig().ClickHouse.Compression {
		c.Collector.ClickHouse.Compression = "none" // on one host it only costs
	}
}

// Preset implements config.Presetter.
func (Config) Preset() map[string]string {
	const (
		connects = "is not a choice here: ebbwatch connects its parts itself (see the sections nats and clickhouse)"
		shares   = "has no effect here: the agent shares its process with the other parts (run ebbwatch-agent by itself for it)"
	)
	preset := map[string]string{
		"agent.nats": connects, "collector.nats": connects, "analyzer.nats": connects,
		"agent.drop_privileges": shares, "agent.memory_limit": shares,
	}
	preset["collector.clickhouse.cluster"] = connects
	preset["collector.clickhouse.insert_user"] = connects
	preset["collector.clickhouse.insert_password"] = connects
	for _, part := range []string{"collector", "analyzer"} {
		for _, key := range []string{"address", "database", "user", "password"} {
			preset[part+".clickhouse."+key] = connects
		}
	}
	return preset
}
