package app

import (
	"errors"
	"fmt"

	agent "github.com/ebbwatch/ebbwatch/agent/app"
	analyzer "github.com/ebbwatch/ebbwatch/analyzer/app"
	collector "github.com/ebbwatch/ebbwatch/collector/app"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
)

// Config is the configuration of a standalone Ebbwatch. How the parts reach
// NATS and ClickHouse is not a choice here: `up` sets it.
type Config struct {
	DataDir    string           `yaml:"data_dir"`   // folder that holds everything that is kept
	NATS       natsd.Config     `yaml:"nats"`       // the NATS server in this process
	ClickHouse engine.Config    `yaml:"clickhouse"` // the local store
	Agent      agent.Config     `yaml:"agent"`
	Collector  collector.Config `yaml:"collector"`
	Analyzer   analyzer.Config  `yaml:"analyzer"`
}

// DefaultConfig returns the configuration of `ebbwatch up` without a file.
func DefaultConfig() Config {
	c := Config{
		DataDir: "/var/lib/ebbwatch", NATS: natsd.DefaultConfig(), ClickHouse: engine.DefaultConfig(),
		Agent: agent.DefaultConfig(), Collector: collector.DefaultConfig(), Analyzer: analyzer.DefaultConfig(),
	}
	c.Agent.DropPrivileges = false // the process is not the agent's alone
	return c
}

// Validate names the first key that cannot be used.
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return errors.New("data_dir: must not be empty")
	}
	for _, section := range []struct {
		name string
		err  error
	}{
		{"nats", c.NATS.Validate()},
		{"clickhouse", c.ClickHouse.Validate()},
		{"agent", c.Agent.Validate()},
		{"collector", c.Collector.Validate()},
		{"analyzer", c.Analyzer.Validate()},
	} {
		if section.err != nil {
			return fmt.Errorf("%s.%w", section.name, section.err)
		}
	}
	return c.notSetByUp()
}

// notSetByUp refuses what would have no effect.
func (c *Config) notSetByUp() error {
	def := DefaultConfig()
	cc, dc, ca, da := c.Collector.ClickHouse, def.Collector.ClickHouse, c.Analyzer.ClickHouse, def.Analyzer.ClickHouse
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"agent.nats", c.Agent.NATS != def.Agent.NATS},
		{"collector.nats", c.Collector.NATS != def.Collector.NATS},
		{"analyzer.nats", c.Analyzer.NATS != def.Analyzer.NATS},
		{"collector.clickhouse.address", cc.Address != dc.Address},
		{"collector.clickhouse.database", cc.Database != dc.Database},
		{"collector.clickhouse.user", cc.User != dc.User},
		{"collector.clickhouse.password", cc.Password != dc.Password},
		{"analyzer.clickhouse.address", ca.Address != da.Address},
		{"analyzer.clickhouse.database", ca.Database != da.Database},
		{"analyzer.clickhouse.user", ca.User != da.User},
		{"analyzer.clickhouse.password", ca.Password != da.Password},
	} {
		if key.set {
			return fmt.Errorf("%s: is not a choice here: ebbwatch connects its parts itself (see the sections nats and clickhouse)", key.name)
		}
	}
	if c.Agent.DropPrivileges {
		return errors.New("agent.drop_privileges: has no effect here: the agent shares its process with the other parts (run ebbwatch-agent by itself for it)")
	}
	return nil
}
