package volume

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
	History        time.Duration `yaml:"history"`          // how far back an entity's own past is looked at
	Guard          time.Duration `yaml:"guard"`            // the past ends this long before the window, so that an onset is not its own baseline
	MinHistory     int           `yaml:"min_history_min"`  // minutes of past below which the floors alone decide (cold start)
	MinRatio       float64       `yaml:"min_ratio"`        // least multiple of the baseline's median
	MinHalfOpen    float64       `yaml:"min_half_open_ps"` // floor of a SYN flood: connections without a completed handshake, per second
	MinHalfShare   float64       `yaml:"min_half_share"`   // and their share of all new connections to the port
	MinPackets     float64       `yaml:"min_packets_ps"`   // floor of a one-way flood: packets per second without an answer
	MinBytes       float64       `yaml:"min_bytes_ps"`     // or bytes per second
	MinOverflow    float64       `yaml:"min_overflow_ps"`  // packets per second that find no room in an agent's flow map
	// FalseDiscoveryRate is over all entities of one window that have a past.
	FalseDiscoveryRate float64 `yaml:"false_discovery_rate"`
	MaxRows            int     `yaml:"max_rows"` // suspects taken from one window, the largest first
}

// DefaultConfig returns values for servers.
func DefaultConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: 10 * time.Second, Step: 5 * time.Second},
		History: time.Hour, Guard: 2 * time.Minute, MinHistory: 10, MinRatio: 4,
		MinHalfOpen: 50, MinHalfShare: 0.7, MinPackets: 5000, MinBytes: 10e6, MinOverflow: 10_000,
		FalseDiscoveryRate: 0.001, MaxRows: 1000,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	if err := c.Cadence.Validate(); err != nil {
		return fmt.Errorf("cadence.%w", err)
	}
	switch {
	case c.History < time.Minute || c.History > 30*24*time.Hour:
		return errors.New("history: must be 1m to 720h")
	case c.Guard < 0:
		return errors.New("guard: must not be negative")
	case c.MinHistory < 1:
		return errors.New("min_history_min: must be at least 1")
	case c.MinRatio < 1:
		return errors.New("min_ratio: must be at least 1")
	case c.MinHalfOpen <= 0:
		return errors.New("min_half_open_ps: must be above 0")
	case c.MinHalfShare < 0 || c.MinHalfShare > 1:
		return errors.New("min_half_share: must be 0 to 1")
	case c.MinPackets <= 0:
		return errors.New("min_packets_ps: must be above 0")
	case c.MinBytes <= 0:
		return errors.New("min_bytes_ps: must be above 0")
	case c.MinOverflow <= 0:
		return errors.New("min_overflow_ps: must be above 0")
	case !(c.FalseDiscoveryRate > 0 && c.FalseDiscoveryRate < 1):
		return errors.New("false_discovery_rate: must be between 0 and 1")
	case c.MaxRows < 1:
		return errors.New("max_rows: must be at least 1")
	}
	return nil
}
