package schedule

import (
	"errors"
	"time"
)

// Config says when windows are looked at.
type Config struct {
	Poll       time.Duration `yaml:"poll"`        // how often the watermark is read
	Settle     time.Duration `yaml:"settle"`      // time from the receipt of a batch to its commit that is allowed for
	StaleAfter time.Duration `yaml:"stale_after"` // an agent that is silent for this long does not hold up the rest
	CatchUp    time.Duration `yaml:"catch_up"`    // after a pause, windows older than this are given up (and counted)
	Lease      time.Duration `yaml:"lease"`       // a second analyzer takes over when the first has not renewed its lease for this long
}

// DefaultConfig returns the configuration that finds a flood within 15 s when
// agents drain every 5 s.
func DefaultConfig() Config {
	return Config{Poll: 500 * time.Millisecond, Settle: time.Second, StaleAfter: 15 * time.Second, CatchUp: 24 * time.Hour, Lease: 10 * time.Second}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	switch {
	case c.Poll < 10*time.Millisecond:
		return errors.New("poll: must be at least 10ms")
	case c.Settle < 0:
		return errors.New("settle: must not be negative")
	case c.StaleAfter < time.Second:
		return errors.New("stale_after: must be at least 1s")
	case c.CatchUp < time.Minute:
		return errors.New("catch_up: must be at least 1m")
	case c.Lease < time.Second:
		return errors.New("lease: must be at least 1s")
	}
	return nil
}
