package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Version is that of the engine that scripts/setup-clickhouse.sh fetches.
const Version = "26.7.3"

// ErrMissing is wrapped when no ClickHouse engine is on this host.
var ErrMissing = errors.New("no ClickHouse engine found")

// ErrTooOld is wrapped when the clickhouse binary on PATH cannot be used.
var ErrTooOld = errors.New("clickhouse on PATH is too old")

// The oldest ClickHouse that Ebbwatch's tables and queries work on.
const minMajor, minMinor = 25, 8

var versionText = regexp.MustCompile(`version (\d+)\.(\d+)`)

// checkVersion refuses a binary that says it is older than the oldest supported.
func checkVersion(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "server", "--version").Output() //nolint:gosec // found on PATH, as documented
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	found := versionText.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("ask %s for its version: it says %.100q", binary, out)
	}
	major, errMajor := strconv.Atoi(string(found[1]))
	minor, errMinor := strconv.Atoi(string(found[2]))
	if err := errors.Join(errMajor, errMinor); err != nil {
		return fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("%w: %s is %d.%d, %d.%d or later is needed: upgrade it, or take it off PATH and run scripts/setup-clickhouse.sh --force",
			ErrTooOld, binary, major, minor, minMajor, minMinor)
	}
	return nil
}

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
