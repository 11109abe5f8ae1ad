package owner

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoCgroup2 says that this process sees no cgroup v2 hierarchy. It may be
// mounted all the same, where these mounts do not show it: `ip netns exec` lays a
// new /sys over it, and a container has what it was given.
var ErrNoCgroup2 = errors.New("no cgroup v2 hierarchy is mounted where this process looks")

// findCgroup2 returns where the cgroup v2 hierarchy is mounted: the mount that
// shows most of it, whatever stands beside it.
func findCgroup2(mountinfo io.Reader) (string, error) {
	mount, root := "", ""
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		// proc_pid_mountinfo(5): … root mount options [optional…] - type source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if mount == "" || len(fields[3]) < len(root) {
			mount, root = unescapeMount(fields[4]), fields[3]
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read mounts: %w", err)
	}
	if mount == "" {
		return "", ErrNoCgroup2
	}
	return mount, nil
}

// unescapeMount undoes the octal escapes of blanks, tabs, newlines and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+4 > len(s) {
			return b.String() + s
		}
		b.WriteString(s[:i])
		code, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			b.WriteString(s[i : i+4])
		} else {
			b.WriteByte(byte(code))
		}
		s = s[i+4:]
	}
}

// maxCgroups bounds the cgroups that are remembered.
const maxCgroups = 1 << 16

// walkEvery is how long a walk over the hierarchy serves: an id that the last
// one did not find is looked for again after this.
const walkEvery = 2 * time.Second

// tree finds the path of a cgroup by its id, which is its inode number. It
// remembers cgroups that are gone. Not safe for concurrent use.
type tree struct {
	root   string
	paths  map[uint64]string
	walked time.Time
	now    func() time.Time
}

func newTree(root string, now func() time.Time) *tree {
	return &tree{root: root, paths: make(map[uint64]string), now: now}
}

// path returns the path below the root of the hierarchy.
func (t *tree) path(id uint64) (string, bool) {
	if p, ok := t.paths[id]; ok {
		return p, true
	}
	if t.root == "" || (!t.walked.IsZero() && t.now().Sub(t.walked) < walkEvery) {
		return "", false
	}
	t.walk()
	p, ok := t.paths[id]
	return p, ok
}

// add remembers a path that somebody else found.
func (t *tree) add(id uint64, path string) {
	if len(t.paths) >= maxCgroups {
		clear(t.paths)
	}
	t.paths[id] = path
}

// walk looks at every folder. What vanishes or cannot be read is left out.
func (t *tree) walk() {
	if len(t.paths) >= maxCgroups/2 { // most of them are gone
		clear(t.paths)
	}
	_ = filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || len(t.paths) >= maxCgroups {
			return fs.SkipAll
		}
		t.paths[st.Ino] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, t.root), "/")
		return nil
	})
	t.walked = t.now()
}

// openCgroup2 finds the hierarchy of this process' mounts.
func openCgroup2() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	defer f.Close()
	return findCgroup2(f)
}
