package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// newestInserts is how far back in a table's log an insert can be that a kill
// broke off: ten for each connection there can be. It is less than the
// deduplication windows of our tables (10,000).
const newestInserts = 1000

// forgetLostInserts removes from the deduplication logs of all tables in folder,
// the engine's data, the inserts that were lost because the engine was killed. It
// returns how many. The engine must not run.
//
// ClickHouse writes an insert's token into the log before it gives the part its
// name. Killed in between, it removes the part at the next start and still takes
// the insert for stored: the repetition, which comes because there was no answer,
// is ignored, and its rows are lost. (Replicated tables do both in one step.)
//
// A part that a TTL or DROP PARTITION has dropped is not there either. ClickHouse
// notes that in the log, by the token, if the token is among those that it still
// compares (the window). So an insert counts as lost only if no such note
// follows and it is one of the newest.
func forgetLostInserts(folder string) (int, error) {
	// ClickHouse has this file as long as it runs, and removes it in good order.
	if _, err := os.Stat(filepath.Join(folder, "status")); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	tables, err := filepath.Glob(filepath.Join(folder, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return 0, fmt.Errorf("find deduplication logs: %w", err)
	}
	forgotten := 0
	for _, table := range tables {
		n, err := forgetLost(table)
		forgotten += n
		if err != nil {
			return forgotten, fmt.Errorf("repair deduplication log: %w", err)
		}
	}
	return forgotten, nil
}

// forgetLost repairs the logs in folder, which is in that of their table.
func forgetLost(folder string) (forgotten int, err error) {
	entries, err := os.ReadDir(filepath.Dir(folder))
	if err != nil {
		return 0, err
	}
	var parts []part
	for _, entry := range entries {
		if p, ok := parsePart([]byte(entry.Name())); ok {
			parts = append(parts, p)
		}
	}
	logs, err := newestFirst(folder)
	if err != nil {
		return 0, err
	}
	dropped, seen := make(map[string]bool), 0 // by token, in the lines after this one
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return forgotten, err
		}
		lines, before := bytes.SplitAfter(text, []byte("\n")), forgotten
		for i := len(lines) - 1; i >= 0 && seen < newestInserts; i-- {
			operation, name, token, ok := parseRecord(lines[i])
			switch {
			case !ok:
			case operation == "2":
				dropped[token] = true
			case dropped[token]:
				delete(dropped, token)
			default:
				seen++
				if p, ok := parsePart(name); ok && !p.isIn(parts) {
					lines[i] = nil
					forgotten++
				}
			}
		}
		if forgotten > before {
			if err := replace(log, bytes.Join(lines, nil)); err != nil {
				return forgotten, err
			}
		}
	}
	return forgotten, nil
}

// newestFirst returns the logs in folder, of which each continues the one with the
// number before its own.
func newestFirst(folder string) ([]string, error) {
	logs, err := filepath.Glob(filepath.Join(folder, "deduplication_log_*.txt"))
	if err != nil {
		return nil, err
	}
	number := func(log string) (n uint64) {
		_, _ = fmt.Sscanf(filepath.Base(log), "deduplication_log_%d.txt", &n) // another name is none of ClickHouse's: 0
		return n
	}
	slices.SortFunc(logs, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
	return logs, nil
}

// parseRecord splits a line of a log: 1 for an insert or 2 for a dropped one, the
// name of the part, and the token (ClickHouse, MergeTreeDeduplicationLog.cpp).
func parseRecord(line []byte) (operation string, name []byte, token string, ok bool) {
	fields := bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
	if len(fields) != 3 || string(fields[0]) != "1" && string(fields[0]) != "2" {
		return "", nil, "", false
	}
	return string(fields[0]), fields[1], string(fields[2]), true
}

// replace gives the log another content in one step. In its folder ClickHouse
// takes every file for a log, so the new one is made beside that.
func replace(log string, text []byte) error {
	info, err := os.Stat(log)
	if err != nil {
		return err
	}
	repaired := filepath.Join(filepath.Dir(log), "..", "tmp_"+filepath.Base(log))
	if err := os.WriteFile(repaired, text, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(repaired, log)
}

// part is what the name of a part says: the partition and the first and last
// block in it.
type part struct {
	partition   string
	first, last uint64
}

var partName = regexp.MustCompile(`^([0-9A-Za-z]+)_([0-9]+)_([0-9]+)_[0-9]+(?:_[0-9]+)?$`)

func parsePart(name []byte) (part, bool) {
	m := partName.FindSubmatch(name)
	if m == nil {
		return part{}, false
	}
	first, err := strconv.ParseUint(string(m[2]), 10, 64)
	if err != nil {
		return part{}, false
	}
	last, err := strconv.ParseUint(string(m[3]), 10, 64)
	return part{string(m[1]), first, last}, err == nil
}

// isIn reports whether one of the parts is p or was merged from it. Right after
// a crash a part that is not there is the newest, so that no merge spans it.
func (p part) isIn(parts []part) bool {
	for _, q := range parts {
		if q.partition == p.partition && q.first <= p.first && p.last <= q.last {
			return true
		}
	}
	return false
}
