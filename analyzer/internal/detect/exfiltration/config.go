package exfiltration

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
	MinBytes       uint64        `yaml:"min_bytes"`       // floor: outward bytes to one destination in a window, for a host with a past
	ColdBytes      uint64        `yaml:"cold_bytes"`      // the same for a host without
	MinPCR         float64       `yaml:"min_pcr"`         // least producer/consumer ratio, (out − in)/(out + in)
	MinRatio       float64       `yaml:"min_ratio"`       // least multiple of what is usual: of the host's 95th percentile, and of the pair's largest minute
	History        time.Duration `yaml:"history"`         // how far back the host's own past is looked at
	PairHistory    time.Duration `yaml:"pair_history"`    // how far back a transfer of this size to this destination makes it usual
	Guard          time.Duration `yaml:"guard"`           // the past ends this long before the window, so that an onset is not its own baseline
	MinHistory     int           `yaml:"min_history_min"` // minutes of past below which cold_bytes alone decides
	// FalseDiscoveryRate is over all transfers of one window from hosts that have a past.
	FalseDiscoveryRate float64 `yaml:"false_discovery_rate"`
	MaxRows            int     `yaml:"max_rows"` // suspects taken from one window, the largest first
}

// DefaultConfig returns values for servers and desktops.
func DefaultConfig() Config {
	return Config{
		Enabled: true, Cadence: detect.Cadence{Window: time.Minute, Step: 5 * time.Second},
		MinBytes: 25e6, ColdBytes: 50e6, MinPCR: 0.6, MinRatio: 3,
		History: 24 * time.Hour, PairHistory: 7 * 24 * time.Hour, Guard: 10 * time.Minute, MinHistory: 30,
		FalseDiscoveryRate: 0.001, MaxRows: 1000,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	if err := c.Cadence.Validate(); err != nil {
		return fmt.Errorf("cadence.%w", err)
	}
	switch {
	case c.MinBytes == 0:
		return errors.New("min_bytes: must be above 0")
	case c.ColdBytes < c.MinBytes:
		return errors.New("cold_bytes: must be at least min_bytes")
	case !(c.MinPCR > 0 && c.MinPCR <= 1):
		return errors.New("min_pcr: must be above 0 and at most 1")
	case c.MinRatio < 1:
		return errors.New("min_ratio: must be at least 1")
	case c.History < time.Hour || c.History > 30*24*time.Hour:
		return errors.New("history: must be 1h to 720h, for which the rollup is kept")
	case c.PairHistory < time.Hour || c.PairHistory > 30*24*time.Hour:
		return errors.New("pair_history: must be 1h to 720h, for which the rollup is kept")
	case c.Guard < 0:
		return errors.New("guard: must not be negative")
	case c.MinHistory < 3:
		return errors.New("min_history_min: must be at least 3")
	case !(c.FalseDiscoveryRate > 0 && c.FalseDiscoveryRate < 1):
		return errors.New("false_discovery_rate: must be between 0 and 1")
	case c.MaxRows < 1:
		return errors.New("max_rows: must be at least 1")
	}
	return nil
}
