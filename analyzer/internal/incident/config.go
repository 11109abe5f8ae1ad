package incident

import (
	"errors"
	"time"
)

// Config says what belongs together.
type Config struct {
	EpisodeGap time.Duration `yaml:"episode_gap"` // a finding on the same entity within this time of an earlier one continues it
	MergeGap   time.Duration `yaml:"merge_gap"`   // findings that share an address within this time are one incident
	QuietAfter time.Duration `yaml:"quiet_after"` // an incident without findings for this long is closed
	MaxLength  time.Duration `yaml:"max_length"`  // an incident takes no new findings after this, so that one busy address does not hide news for ever
	SaveEvery  time.Duration `yaml:"save_every"`  // how much longer a finding must last before its new end is stored
	MaxOpen    int           `yaml:"max_open"`    // findings that can go on at one time; the quietest is ended early above it
}

// DefaultConfig returns values for people on call: an attack that pauses for
// five minutes is the same attack, and ten quiet minutes end an incident.
func DefaultConfig() Config {
	return Config{
		EpisodeGap: 5 * time.Minute, MergeGap: 10 * time.Minute, QuietAfter: 10 * time.Minute,
		MaxLength: 12 * time.Hour, SaveEvery: 30 * time.Second, MaxOpen: 20_000,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	switch {
	case c.EpisodeGap < 0:
		return errors.New("episode_gap: must not be negative")
	case c.MergeGap < 0:
		return errors.New("merge_gap: must not be negative")
	case c.QuietAfter < max(c.EpisodeGap, c.MergeGap):
		return errors.New("quiet_after: must be at least episode_gap and merge_gap, or an incident would close while it can still grow")
	case c.MaxLength < time.Hour:
		return errors.New("max_length: must be at least 1h")
	case c.SaveEvery < 0:
		return errors.New("save_every: must not be negative")
	case c.MaxOpen < 100:
		return errors.New("max_open: must be at least 100")
	}
	return nil
}
