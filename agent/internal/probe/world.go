package probe

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// Where network namespaces have files: by names that ip-netns(8) and container
// network plugins chose, and by Docker's numbers, which tell nobody anything.
var namedSpaces, numberedSpaces = []string{"/run/netns", "/var/run/netns"}, []string{"/run/docker/netns"}

// Bounds of one look for namespaces.
const (
	maxNamedFiles = 4096
	maxProcesses  = 1 << 16
	maxSpaceName  = 64
)

// world is all network namespaces that the agent knows. Only Probe.Run's
// goroutine uses it.
type world struct {
	home      *os.File // the agent's own
	homeInode uint64
	own       *space
	spaces    map[uint64]*space // others, by inode
	next      uint32            // number
	// generation counts the namespaces that came.
	generation int
	proc       string
	named      []string // folders
	numbered   []string // folders
	container  func(pid int) string
	log        *slog.Logger
}

// openWorld opens the namespace of the process.
func openWorld(container func(pid int) string, log *slog.Logger) (*world, error) {
	home, err := os.Open("/proc/thread-self/ns/net") // /proc/self is the main thread, which may be entering another
	if err != nil {
		return nil, fmt.Errorf("open this network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(home.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("identify this network namespace: %w", err), home.Close())
	}
	return &world{
		home: home, homeInode: st.Ino, own: &space{ids: make(map[int]uint32)}, spaces: make(map[uint64]*space), next: 1, generation: 1,
		proc: "/proc", named: namedSpaces, numbered: numberedSpaces, container: container, log: log,
	}, nil
}

func (w *world) close() error { return w.home.Close() }

// all returns every namespace, the agent's own first, then in the order they came.
func (w *world) all() []*space {
	list := []*space{w.own}
	return append(list, slices.SortedFunc(maps.Values(w.spaces), func(a, b *space) int { return int(a.number) - int(b.number) })...)
}

// found is where a namespace can be opened.
type found struct {
	path, name, number string
	pid                int // a process in it
}

// scan looks for namespaces and returns those that went. Beyond most, new ones
// are left alone; refused is how many.
func (w *world) scan(most int) (gone []*space, refused int) {
	there := make(map[uint64]found)
	for _, folder := range w.named {
		w.scanFiles(there, folder, func(f *found, file string) { f.name = file })
	}
	for _, folder := range w.numbered {
		w.scanFiles(there, folder, func(f *found, file string) { f.number = file })
	}
	w.scanProcesses(there)
	delete(there, w.homeInode)
	for inode, s := range w.spaces {
		f, ok := there[inode]
		if !ok {
			gone = append(gone, s)
			w.forget(s)
			continue
		}
		s.path = f.path
		if !s.named { // its first process may have come to its container since
			w.call(s, f)
		}
	}
	for _, inode := range slices.Sorted(maps.Keys(there)) {
		if w.spaces[inode] != nil {
			continue
		}
		if len(w.spaces) >= most {
			refused++
			continue
		}
		w.add(inode, there[inode])
	}
	return gone, refused
}

func (w *world) add(inode uint64, f found) *space {
	s := &space{number: w.next, inode: inode, path: f.path, ids: make(map[int]uint32)}
	w.call(s, f)
	w.next++
	w.generation++
	w.spaces[inode] = s
	return s
}

// forget removes a namespace. Its ids in others can mean another one now.
func (w *world) forget(s *space) {
	delete(w.spaces, s.inode)
	for _, other := range w.all() {
		maps.DeleteFunc(other.ids, func(_ int, n uint32) bool { return n == s.number })
	}
}

// call names a namespace for people: by its file under /run/netns, else the
// container of a process in it, else Docker's number, else its inode as lsns(8)
// shows it.
func (w *world) call(s *space, f found) {
	name := f.name
	if name == "" && w.container != nil && f.pid != 0 {
		name = w.container(f.pid)
	}
	s.named = name != ""
	s.name = printable(cmp.Or(name, f.number, fmt.Sprintf("net:[%d]", s.inode)), maxSpaceName)
}

// scanFiles finds namespaces that have a file in the folder.
func (w *world) scanFiles(there map[uint64]found, folder string, note func(f *found, file string)) {
	var home unix.Stat_t
	if err := unix.Fstat(int(w.home.Fd()), &home); err != nil {
		return
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		return // not there, or not for this process
	}
	for _, file := range files[:min(len(files), maxNamedFiles)] {
		path := filepath.Join(folder, file.Name())
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Dev != home.Dev {
			continue // a file on which nothing is mounted here
		}
		if _, ok := there[st.Ino]; !ok {
			f := found{path: path}
			note(&f, file.Name())
			there[st.Ino] = f
		}
	}
}

// scanProcesses finds namespaces that a process is in.
func (w *world) scanProcesses(there map[uint64]found) {
	folder, err := os.Open(w.proc)
	if err != nil {
		return
	}
	defer folder.Close()
	names, err := folder.Readdirnames(maxProcesses)
	if err != nil {
		return
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		path := filepath.Join(w.proc, name, "ns/net")
		target, err := os.Readlink(path)
		if err != nil {
			continue // ended, or a kernel thread, or not for this process
		}
		number, ok := strings.CutPrefix(strings.TrimSuffix(target, "]"), "net:[")
		inode, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			continue
		}
		// The oldest process is the one that lives longest, as a rule.
		f, ok := there[inode]
		if !ok || f.pid != 0 && f.pid > pid && f.name == "" && f.number == "" {
			f.path = path
		}
		if f.pid == 0 || f.pid > pid {
			f.pid = pid
			there[inode] = f
		}
	}
}

// printable returns s with every byte that is no printable character of UTF-8, or
// a blank, replaced by "?", cut to limit bytes. Interfaces can have any name.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			r = '?'
		}
		if b.Len()+len(string(r)) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
