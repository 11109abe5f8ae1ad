package app

import (
	"errors"
	"fmt"
	"net"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Config is the configuration of an analyzer.
type Config struct {
	NATS       natsconn.Config `yaml:"nats"`
	ClickHouse store.Config    `yaml:"clickhouse"`
	Listen     string          `yaml:"listen"` // host:port of the page, the API, /metrics and /healthz
	Schedule   schedule.Config `yaml:"schedule"`
	Detectors  Detectors       `yaml:"detectors"`
	Incidents  incident.Config `yaml:"incidents"`
}

// DefaultConfig returns the configuration of an analyzer beside everything else
// on this host.
func DefaultConfig() Config {
	return Config{
		NATS: natsconn.DefaultConfig(), ClickHouse: store.DefaultConfig(), Listen: "127.0.0.1:8460",
		Schedule: schedule.DefaultConfig(), Detectors: DefaultDetectors(), Incidents: incident.DefaultConfig(),
	}
}

// Validate implements config.Validator.
func (c *Config) Validate() error {
	if c.NATS.URL == "" {
		return errors.New("nats.url: must not be empty")
	}
	if _, _, err := net.SplitHostPort(c.Listen); c.Listen != "" && err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for _, part := range []struct {
		key   string
		check interface{ Validate() error }
	}{
		{"clickhouse", &c.ClickHouse}, {"schedule", &c.Schedule}, {"detectors", &c.Detectors}, {"incidents", &c.Incidents},
	} {
		if err := part.check.Validate(); err != nil {
			return fmt.Errorf("%s.%w", part.key, err)
		}
	}
	return nil
}
