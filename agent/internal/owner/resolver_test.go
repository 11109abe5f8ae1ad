package owner

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

// fakeHost stands for /proc and the kernel's notes.
type fakeHost struct {
	now   time.Time
	alive map[uint32]process
	notes map[uint32]seen
	looks int
}

func newFake() (*fakeHost, *resolver) {
	h := &fakeHost{now: time.Unix(1000, 0), alive: make(map[uint32]process), notes: make(map[uint32]seen)}
	r := newResolver("/proc", "", func() time.Time { return h.now })
	r.noted = func(pid uint32) (seen, bool) { s, ok := h.notes[pid]; return s, ok }
	r.reading = func(_ string, pid uint32) (process, error) {
		h.looks++
		p, ok := h.alive[pid]
		if !ok {
			return p, errors.New("no such process")
		}
		return p, nil
	}
	return h, r
}

func note(name string, uid uint32, at time.Duration) seen {
	s := seen{Uid: uid, Seen: uint64(at)}
	for i := range name {
		s.Comm[i] = int8(name[i])
	}
	return s
}

func TestOwners(t *testing.T) {
	const s = time.Second
	nginx := process{name: "nginx", uid: 33, started: 10 * s, place: place{unit: "nginx.service"}}
	for _, c := range []struct {
		name  string
		alive *process
		note  *seen
		want  ebbwatch.Owner
	}{
		{"a process that lives and made its socket in a thread", &nginx, ptr(note("worker-3", 33, 20*s)), ebbwatch.Owner{PID: 7, UID: 33, Process: "nginx", Unit: "nginx.service"}},
		{"a process that made its socket within a tick of its start", &nginx, ptr(note("nginx", 33, 10*s-5*time.Millisecond)), ebbwatch.Owner{PID: 7, UID: 33, Process: "nginx", Unit: "nginx.service"}},
		{"a process that has ended", nil, ptr(note("curl", 1000, 20*s)), ebbwatch.Owner{PID: 7, UID: 1000, Process: "curl"}},
		{"a process that has ended and whose number another has now", &nginx, ptr(note("curl", 1000, 9*s)), ebbwatch.Owner{PID: 7, UID: 1000, Process: "curl"}},
		{"a process that the kernel noted nothing of", &nginx, nil, ebbwatch.Owner{PID: 7, UID: 33, Process: "nginx", Unit: "nginx.service"}},
		{"a name of 16 bytes without an end", nil, ptr(note("abcdefghijklmnop", 0, s)), ebbwatch.Owner{PID: 7, Process: "abcdefghijklmnop"}},
		{"a hostile name", nil, ptr(note("\x1b]0;\xffx", 0, s)), ebbwatch.Owner{PID: 7, Process: "?]0;?x"}},
		{"nobody", nil, nil, ebbwatch.Owner{}},
	} {
		h, r := newFake()
		if c.alive != nil {
			h.alive[7] = *c.alive
		}
		if c.note != nil {
			h.notes[7] = *c.note
		}
		got, ok := r.owner(7)
		if got != c.want || ok != (c.want.PID != 0) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestAnswersAreRememberedAndRefreshed(t *testing.T) {
	h, r := newFake()
	h.alive[7] = process{name: "app", place: place{container: "0123456789ab"}}
	h.notes[7] = note("app", 0, time.Second)
	for range 100 {
		if o, ok := r.owner(7); !ok || o.Container == "" {
			t.Fatalf("%+v, %v", o, ok)
		}
	}
	if h.looks != 1 {
		t.Errorf("%d looks at /proc within a second, want 1", h.looks)
	}
	h.now = h.now.Add(2 * time.Second)
	delete(h.alive, 7)
	if o, ok := r.owner(7); !ok || o.Process != "app" || o.Container != "0123456789ab" {
		t.Errorf("after its end %+v, %v: what was known is lost", o, ok)
	}
	h.now = h.now.Add(2 * time.Second)
	delete(h.notes, 7)
	if o, ok := r.owner(7); !ok || o.Process != "app" {
		t.Errorf("after the note was evicted %+v, %v", o, ok)
	}
	h.now = h.now.Add(2 * time.Second)
	h.notes[7] = note("other", 5, time.Minute)
	if o, _ := r.owner(7); o != (ebbwatch.Owner{PID: 7, UID: 5, Process: "other"}) {
		t.Errorf("the next process of that number is %+v", o)
	}
	if _, ok := r.owner(0); ok {
		t.Error("process 0 is somebody")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	_, r := newFake()
	for pid := range uint32(10 * maxAnswers) {
		r.owner(pid + 1)
	}
	if n := len(r.fresh) + len(r.stale); n > 2*maxAnswers {
		t.Errorf("%d answers are remembered, want at most %d", n, 2*maxAnswers)
	}
}

func TestCgroupsAreFoundByInode(t *testing.T) {
	root := t.TempDir()
	now := time.Unix(1000, 0)
	tr := newTree(root, func() time.Time { return now })
	inode := func(path string) uint64 {
		t.Helper()
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return inodeOf(t, dir)
	}
	first := inode("system.slice/a.service")
	if p, ok := tr.path(first); !ok || p != "/system.slice/a.service" {
		t.Errorf("%q, %v", p, ok)
	}
	if p, ok := tr.path(inode("")); !ok || p != "/" {
		t.Errorf("the root is %q, %v", p, ok)
	}
	second := inode("system.slice/b.service")
	if p, ok := tr.path(second); ok {
		t.Errorf("found %q without a walk", p)
	}
	now = now.Add(walkEvery)
	if p, ok := tr.path(second); !ok || p != "/system.slice/b.service" {
		t.Errorf("%q, %v", p, ok)
	}
	if err := os.Remove(filepath.Join(root, "system.slice/a.service")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(walkEvery)
	tr.path(1 << 60)
	if _, ok := tr.path(first); !ok {
		t.Error("a cgroup that is gone is forgotten")
	}
	for id := range uint64(maxCgroups + 10) {
		tr.add(id, "/")
	}
	if len(tr.paths) > maxCgroups {
		t.Errorf("%d cgroups are remembered", len(tr.paths))
	}
}
