package owner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is what /proc tells about one that lives.
type process struct {
	name    string
	uid     uint32
	started time.Duration // on CLOCK_BOOTTIME, to clockTick
	place   place
}

// clockTick is the unit of times in /proc: USER_HZ is 100 on every architecture
// that Go knows.
const clockTick = 10 * time.Millisecond

// initialPIDs is the inode of the first PID namespace (PROC_PID_INIT_INO).
const initialPIDs = 0xEFFFFFFC

// ownPIDs returns nil if this process counts processes as the kernel does.
func ownPIDs() error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return fmt.Errorf("find the PID namespace: %w", err)
	}
	if st.Ino != initialPIDs {
		return errors.New("the agent runs in a PID namespace of its own, where /proc has other numbers than the kernel: give its container the host's PID namespace")
	}
	return nil
}

// readProcess reads /proc/PID below root.
func readProcess(root string, pid uint32) (process, error) {
	dir := filepath.Join(root, strconv.FormatUint(uint64(pid), 10))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, fmt.Errorf("read process: %w", err)
	}
	p, err := parseStat(stat)
	if err != nil {
		return process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return process{}, fmt.Errorf("read process: %w", err)
	}
	if p.uid, err = parseUID(status); err != nil {
		return process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	cgroups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err == nil { // without it, name and user are still worth something
		p.place = parseCgroups(string(cgroups))
	}
	return p, nil
}

// parseStat takes the name and the start time from /proc/PID/stat. The name is
// in parentheses and can hold anything, parentheses too.
func parseStat(stat []byte) (process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return process{}, errors.New("stat has no name")
	}
	const startField = 22 - 3 // of the fields behind the name, which begin with the third
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startField {
		return process{}, errors.New("stat is too short")
	}
	ticks, err := strconv.ParseUint(fields[startField], 10, 53)
	if err != nil {
		return process{}, fmt.Errorf("parse start time: %w", err)
	}
	return process{name: printable(string(stat[open+1 : end])), started: time.Duration(ticks) * clockTick}, nil
}

// parseUID takes the real user from /proc/PID/status.
func parseUID(status []byte) (uint32, error) {
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, "Uid:")
		if !ok {
			continue
		}
		if fields := strings.Fields(rest); len(fields) > 0 {
			uid, err := strconv.ParseUint(fields[0], 10, 32)
			if err != nil {
				return 0, fmt.Errorf("parse uid: %w", err)
			}
			return uint32(uid), nil
		}
	}
	return 0, errors.New("status has no user")
}

// parseCgroups reads /proc/PID/cgroup. With v1 beside v2, a container manager
// may use either: the path that tells most counts.
func parseCgroups(lines string) place {
	var best place
	for line := range strings.Lines(lines) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if p := parsePath(strings.TrimSuffix(parts[2], " (deleted)")); p.better(best) {
			best = p
		}
	}
	return best
}
