// Package migrations holds the schema of the ClickHouse database as numbered
// SQL files, the contract with everybody who reads flows, findings or reports.
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Migration is one file.
type Migration struct {
	Version  uint32 // the number that the file's name begins with
	File     string
	Checksum string // SHA-256 of the file, in hexadecimal
	// Steps are the statements in their order, without the final semicolon. Each
	// can run again after a failure: the runner repeats a file from its start.
	Steps []string
}

// All returns the migrations of this build in the order of their versions.
func All() ([]Migration, error) { return Load(files) }

var fileName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)

// Load returns the migrations in the root of fsys in the order of their
// versions, which must be 1, 2, 3, … without a gap.
func Load(fsys fs.FS) ([]Migration, error) {
	names, err := fs.Glob(fsys, "*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("list migrations: there are none")
	}
	all := make([]Migration, 0, len(names))
	for i, name := range names {
		match := fileName.FindStringSubmatch(name)
		if match == nil {
			return nil, fmt.Errorf("migration %s: want a name like 0001_some_words.sql", name)
		}
		version, err := strconv.ParseUint(match[1], 10, 32)
		if err != nil || version != uint64(i+1) {
			return nil, fmt.Errorf("migration %s: want number %04d, without gaps or doubles", name, i+1)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		sum := sha256.Sum256(text)
		m := Migration{Version: uint32(version), File: name, Checksum: hex.EncodeToString(sum[:]), Steps: split(string(text))}
		if len(m.Steps) == 0 {
			return nil, fmt.Errorf("migration %s: holds no statement", name)
		}
		all = append(all, m)
	}
	return all, nil
}

// split cuts a file at the lines that hold only "-- step" and drops the pieces
// that hold no statement, and the comments before each.
func split(text string) []string {
	var steps []string
	var step []string
	flush := func() {
		for len(step) > 0 && (strings.HasPrefix(step[0], "--") || strings.TrimSpace(step[0]) == "") {
			step = step[1:]
		}
		statement := strings.TrimSuffix(strings.TrimSpace(strings.Join(step, "\n")), ";")
		if statement != "" {
			steps = append(steps, statement)
		}
		step = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "-- step" {
			flush()
			continue
		}
		step = append(step, line)
	}
	flush()
	return steps
}
