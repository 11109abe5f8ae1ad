package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is that of the engine that scripts/setup-clickhouse.sh fetches.
const Version = "26.7.3"

// ErrMissing is wrapped when no ClickHouse engine is on this host.
var ErrMissing = errors.New("no ClickHouse engine found")

// program is what runs the engine: a clickhouse binary or the library.
type program struct{ binary, library string }

// Find reports whether there is an engine on this host; its error, which wraps
// ErrMissing, says what to do.
func (c Config) Find() error {
	_, err := c.locate()
	return err
}

func (c Config) locate() (program, error) {
	if c.Library != "" {
		if _, err := os.Stat(c.Library); err != nil {
			return program{}, fmt.Errorf("%w: clickhouse.library_file: %w", ErrMissing, err)
		}
		return program{library: c.Library}, nil
	}
	if path, err := exec.LookPath("clickhouse"); err == nil {
		return program{binary: path}, nil
	}
	cache := os.Getenv("EBBWATCH_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return program{}, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		cache = filepath.Join(base, "ebbwatch")
	}
	library := filepath.Join(cache, "clickhouse-"+Version, "libchdb.so")
	if _, err := os.Stat(library); err != nil {
		return program{}, fmt.Errorf("%w: run scripts/setup-clickhouse.sh to fetch it into %s, or put a clickhouse binary (25.8 or later) on PATH",
			ErrMissing, filepath.Dir(library))
	}
	return program{library: library}, nil
}
