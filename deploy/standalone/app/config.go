package app

import (
	"errors"
	"fmt"

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
	Collector  collector.Config `yaml:"collector"`
}

// DefaultConfig returns the configuration of `ebbwatch up` without a file.
func DefaultConfig() Config {
	return Config{
		DataDir: "/var/lib/ebbwatch", NATS: natsd.DefaultConfig(), ClickHouse: engine.DefaultConfig(),
		Collector: collector.DefaultConfig(),
	}
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
		{"collector", c.Collector.Validate()},
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
	for key, set := range map[string]bool{
		"collector.nats":       c.Collector.NATS != def.Collector.NATS,
		"collector.clickhouse": c.Collector.ClickHouse != def.Collector.ClickHouse,
	} {
		if set {
			return fmt.Errorf("%s: is not a choice here: ebbwatch connects its parts itself (see nats and clickhouse)", key)
		}
	}
	return nil
}

// page returns the address of the analyzer's page.
func (c *Config) page() string { return "127.0.0.1:8460" }
