package owner

import (
	"errors"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// seen is what the kernel noted when a process made or held a socket.
type seen = objects.OwnerEbbOwner

// resolver names processes. It is safe for concurrent use.
type resolver struct {
	proc    string                         // where /proc is; "" if it shows other processes than the kernel's
	noted   func(pid uint32) (seen, bool)  // ebb_owners
	cgroup  func(id uint64) (string, bool) // ebb_cgroups
	now     func() time.Time               //
	mu      sync.Mutex                     // guards what follows
	tree    *tree                          //
	fresh   map[uint32]answer              // answers used since the last change of generation
	stale   map[uint32]answer              // the ones of before
	reading func(string, uint32) (process, error)
}

// answer is a remembered one. Unknown processes are remembered, too.
type answer struct {
	owner ebbwatch.Owner
	ok    bool
	seen  seen
	at    time.Time
}

const (
	// answerAge is how long an answer serves without another look: about one
	// drain, in which a process can own many conversations.
	answerAge = time.Second
	// maxAnswers bounds each of the two generations of answers.
	maxAnswers = 4096
)

func newResolver(proc, cgroups string, now func() time.Time) *resolver {
	return &resolver{
		proc: proc, now: now, tree: newTree(cgroups, now),
		noted:   func(uint32) (seen, bool) { return seen{}, false },
		cgroup:  func(uint64) (string, bool) { return "", false },
		fresh:   make(map[uint32]answer),
		reading: readProcess,
	}
}

// owner names the process, ended or not.
func (r *resolver) owner(pid uint32) (ebbwatch.Owner, bool) {
	if pid == 0 {
		return ebbwatch.Owner{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	old, known := r.fresh[pid]
	if !known {
		old, known = r.stale[pid]
	}
	if known && now.Sub(old.at) < answerAge {
		return old.owner, old.ok
	}
	noted, found := r.noted(pid)
	fresh, ok := r.look(pid, noted, found)
	switch {
	case !ok && !found && known && old.ok:
		// It has ended, and the kernel's note of it was evicted.
		fresh, ok, noted = old.owner, true, old.seen
	case ok && known && old.ok && old.seen == noted:
		keep(&fresh, old.owner)
	}
	if len(r.fresh) >= maxAnswers {
		r.fresh, r.stale = make(map[uint32]answer), r.fresh
	}
	r.fresh[pid] = answer{owner: fresh, ok: ok, seen: noted, at: now}
	return fresh, ok
}

// keep takes over what could be told of the same process while it lived.
func keep(o *ebbwatch.Owner, before ebbwatch.Owner) {
	if o.Unit == "" && o.Container == "" && o.Pod == "" {
		o.Unit, o.Container, o.Pod = before.Unit, before.Container, before.Pod
	}
}

// look asks /proc, if the process still lives, and the kernel's note of it.
func (r *resolver) look(pid uint32, noted seen, found bool) (ebbwatch.Owner, bool) {
	var alive process
	err := errNoProc
	if r.proc != "" {
		alive, err = r.reading(r.proc, pid)
	}
	// A process that began after the note was made is another one.
	if err == nil && (!found || alive.started <= time.Duration(noted.Seen)+clockTick) {
		where := alive.place
		if where == (place{}) && found {
			where = r.place(noted.Cgroup)
		}
		return named(pid, alive.uid, alive.name, where), true
	}
	if !found {
		return ebbwatch.Owner{}, false
	}
	name := make([]byte, len(noted.Comm))
	for i, c := range noted.Comm {
		name[i] = byte(c)
	}
	return named(pid, noted.Uid, comm(name), r.place(noted.Cgroup)), true
}

var errNoProc = errors.New("no process with the kernel's number to look at")

// place finds a cgroup that need not exist any more.
func (r *resolver) place(id uint64) place {
	if path, ok := r.tree.paths[id]; ok {
		return parsePath(path)
	}
	if path, ok := r.cgroup(id); ok {
		r.tree.add(id, path)
		return parsePath(path)
	}
	path, _ := r.tree.path(id)
	return parsePath(path)
}

func named(pid, uid uint32, name string, where place) ebbwatch.Owner {
	return ebbwatch.Owner{PID: pid, UID: uid, Process: name, Unit: where.unit, Container: where.container, Pod: where.pod}
}

// lookUp returns the function that reads a map of the kernel's, or one that
// finds nothing if there is no map.
func lookUp[K, V any](m *ebpf.Map) func(K) (V, bool) {
	return func(key K) (V, bool) {
		var value V
		if m == nil || m.Lookup(&key, &value) != nil {
			return value, false // not there; a map has no other way to fail here
		}
		return value, true
	}
}
