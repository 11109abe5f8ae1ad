package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// forgetLostInserts removes from the deduplication logs of all tables in folder,
// the engine's data, the inserts of which no part is there. It returns how many.
// The engine must not run.
//
// ClickHouse writes an insert's token into the log before it gives the part its
// name. Killed in between, it removes the part at the next start and still takes
// the insert for stored: the repetition, which comes because there was no answer,
// is ignored, and its rows are lost. (Replicated tables do both in one step.)
func forgetLostInserts(folder string) (int, error) {
	logs, err := filepath.Glob(filepath.Join(folder, "store", "*", "*", "deduplication_logs", "*.txt"))
	if err != nil {
		return 0, fmt.Errorf("find deduplication logs: %w", err)
	}
	forgotten := 0
	for _, log := range logs {
		n, err := forgetLost(log)
		if err != nil {
			return forgotten, fmt.Errorf("repair deduplication log: %w", err)
		}
		forgotten += n
	}
	return forgotten, nil
}

// forgetLost repairs one log, whose table is two folders above.
func forgetLost(log string) (int, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(filepath.Dir(filepath.Dir(log)))
	if err != nil {
		return 0, err
	}
	var parts []part
	for _, entry := range entries {
		if p, ok := parsePart([]byte(entry.Name())); ok {
			parts = append(parts, p)
		}
	}
	var kept bytes.Buffer
	forgotten := 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := bytes.Split(lines.Bytes(), []byte("\t"))
		const added = "1" // 2 is a token that was dropped
		if len(fields) == 3 && string(fields[0]) == added {
			if p, ok := parsePart(fields[1]); ok && !p.isIn(parts) {
				forgotten++
				continue
			}
		}
		kept.Write(lines.Bytes())
		kept.WriteByte('\n')
	}
	if forgotten == 0 {
		return 0, nil
	}
	info, err := os.Stat(log)
	if err != nil {
		return 0, err
	}
	repaired := log + ".repaired"
	if err := os.WriteFile(repaired, kept.Bytes(), info.Mode().Perm()); err != nil {
		return 0, err
	}
	return forgotten, os.Rename(repaired, log)
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
