package app

import (
	"errors"
	"fmt"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
)

// Config is the configuration of a standalone Ebbwatch.
type Config struct {
	DataDir    string        `yaml:"data_dir"`   // folder that holds everything that is kept
	ClickHouse engine.Config `yaml:"clickhouse"` // the local store
}

// DefaultConfig returns the configuration of `ebbwatch up` without a file.
func DefaultConfig() Config {
	return Config{DataDir: "/var/lib/ebbwatch", ClickHouse: engine.DefaultConfig()}
}

// Validate implements config.Validator.
func (c *Config) Validate() error {
	if c.DataDir == "" {
		return errors.New("data_dir: must not be empty")
	}
	if err := c.ClickHouse.Validate(); err != nil {
		return fmt.Errorf("clickhouse.%w", err)
	}
	return nil
}
