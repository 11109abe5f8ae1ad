package beacon

import (
	"errors"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Config tunes the detector.
type Config struct {
	Enabled        bool `yaml:"enabled"`
	detect.Cadence `yaml:"cadence"`
	MinConnections int           `yaml:"min_connections"` // of one pair in a window
	MinInterval    time.Duration `yaml:"min_interval"`    // least median time between connections
	MinSpan        time.Duration `yaml:"min_span"`        // least time from the first to the last connection
	Collapse       time.Duration `yaml:"collapse"`        // connections closer together than this count once
	MaxDispersion  float64       `yaml:"max_dispersion"`  // largest MAD/median of the intervals; 0 is a clock, 0.69 is chance
	MaxPeers       int           `yaml:"max_peers"`       // a port with this many regular clients is a service, a client with this many regular servers a monitor
	MaxClients     uint64        `yaml:"max_clients"`     // a port with this many clients in client_history is a public service; 0 for no limit
	ClientHistory  time.Duration `yaml:"client_history"`  // the time in which clients are counted
	// FalseDiscoveryRate is over all pairs of one window with enough connections.
	FalseDiscoveryRate float64 `yaml:"false_discovery_rate"`
	MaxRows            int     `yaml:"max_rows"` // pairs taken from one window, those with the most connections first
}

// FastConfig returns the configuration for calls every few seconds: 5 s is
// found within about a minute.
func FastConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: 5 * time.Minute, Step: 10 * time.Second},
		MinConnections: 10, MinInterval: 2 * time.Second, MinSpan: 40 * time.Second, Collapse: 500 * time.Millisecond,
		MaxDispersion: 0.3, MaxPeers: 5, MaxClients: 10, ClientHistory: 6 * time.Hour, FalseDiscoveryRate: 0.001, MaxRows: 5000,
	}
}

// SlowConfig returns the configuration for intervals of half a minute to an
// hour, over a day of raw flows.
func SlowConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: 24 * time.Hour, Step: 10 * time.Minute},
		MinConnections: 20, MinInterval: 30 * time.Second, MinSpan: 2 * time.Hour, Collapse: 5 * time.Second,
		MaxDispersion: 0.3, MaxPeers: 5, ClientHistory: 6 * time.Hour, FalseDiscoveryRate: 0.001, MaxRows: 5000,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	if err := c.Cadence.Validate(); err != nil {
		return fmt.Errorf("cadence.%w", err)
	}
	switch {
	case c.MinConnections < 4:
		return errors.New("min_connections: must be at least 4")
	case c.MinInterval <= 0:
		return errors.New("min_interval: must be above 0")
	case c.MinSpan < 0 || c.MinSpan > c.Window:
		return errors.New("min_span: must be 0 to window")
	case c.Collapse < 0 || c.Collapse > c.MinInterval:
		return errors.New("collapse: must be 0 to min_interval")
	case !(c.MaxDispersion > 0 && c.MaxDispersion < 0.69):
		return errors.New("max_dispersion: must be between 0 and 0.69, that of chance")
	case c.MaxPeers < 2:
		return errors.New("max_peers: must be at least 2")
	case c.ClientHistory < time.Minute || c.ClientHistory > 30*24*time.Hour:
		return errors.New("client_history: must be 1m to 720h, for which the rollup is kept")
	case !(c.FalseDiscoveryRate > 0 && c.FalseDiscoveryRate < 1):
		return errors.New("false_discovery_rate: must be between 0 and 1")
	case c.MaxRows < 1:
		return errors.New("max_rows: must be at least 1")
	}
	return nil
}

// maxConnections is how many connections of one pair are worth reading: more
// have a median interval below MinInterval.
func (c *Config) maxConnections() int {
	return int(2*c.Window/c.MinInterval) + 1
}
