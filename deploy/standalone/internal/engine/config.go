package engine

import (
	"errors"
	"fmt"
	"regexp"
)

// Config says how the local ClickHouse engine runs. It always listens on
// 127.0.0.1 only.
type Config struct {
	TCPPort     int      `yaml:"tcp_port"`      // native protocol
	HTTPPort    int      `yaml:"http_port"`     // HTTP interface
	Databases   []string `yaml:"databases"`     // databases that the users may use; Ebbwatch's tables are in the first
	MaxMemoryMB int      `yaml:"max_memory_mb"` // most memory of the engine, in MiB; 0 is a quarter of the host's, 512 to 4096
	SyncAlways  bool     `yaml:"sync_always"`   // an insert reaches the disk itself, beyond the page cache, before it is answered; slower by far
	Library     string   `yaml:"library_file"`  // path of libchdb.so; empty: a clickhouse binary on PATH, else the one in the cache
}

// DefaultConfig returns the configuration of the engine inside `ebbwatch up`.
func DefaultConfig() Config {
	return Config{TCPPort: 8463, HTTPPort: 8464, Databases: []string{"ebbwatch"}}
}

// Validate names the first key, below prefix, that cannot be used.
func (c Config) Validate() error {
	if c.TCPPort < 1 || c.TCPPort > 65535 {
		return fmt.Errorf("tcp_port: %d is not a port (1 to 65535)", c.TCPPort)
	}
	if c.HTTPPort < 1 || c.HTTPPort > 65535 {
		return fmt.Errorf("http_port: %d is not a port (1 to 65535)", c.HTTPPort)
	}
	if c.TCPPort == c.HTTPPort {
		return fmt.Errorf("http_port: %d is tcp_port too", c.HTTPPort)
	}
	if c.MaxMemoryMB != 0 && c.MaxMemoryMB < 256 {
		return fmt.Errorf("max_memory_mb: %d is below 256", c.MaxMemoryMB)
	}
	if len(c.Databases) == 0 {
		return errors.New("databases: name at least one")
	}
	for _, name := range c.Databases {
		if !databaseName.MatchString(name) {
			return fmt.Errorf("databases: %q is not a plain name (letters, digits and '_', beginning with a letter)", name)
		}
	}
	return nil
}

// databaseName keeps names that need no quoting in a grant.
var databaseName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)
