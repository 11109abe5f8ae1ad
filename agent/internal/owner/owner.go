// Package owner tells which process is behind a socket: it has the kernel note
// who makes one, looks through the open files of the host for sockets that
// nobody saw being made, and names processes, also those that ended.
//
// The owner of a socket stands in the map ebb_sockets, where the programs that
// see the packets read it; bpf/lib/owner.h has the rule of who that is.
//
// Nothing here is required: without a feature of the kernel owners are unknown,
// or known later, and Features says why.
package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// ScanEvery is the time between two scans of all open files. A scan that takes
// long is repeated less often, so that scans take at most a hundredth of a CPU.
const (
	ScanEvery = time.Minute
	scanShare = 100
)

// Watcher has the kernel note owners, and names them. Make it with Open. Owner
// and Scan may be called from several goroutines; Close must be the last call.
type Watcher struct {
	log      *slog.Logger
	resolver *resolver
	features []flowbpf.Feature

	maps            *ebpf.Collection
	programs        []*ebpf.Collection
	links           []io.Closer
	confirm, settle *link.Iter
	mu              sync.Mutex // guards scan
	scan            uint32
	scans           scanStats
}

type scanStats struct {
	count, failed uint64
	last          time.Duration
}

// Open loads what this kernel and these privileges allow, and logs what they do
// not. sockets is the map that the packet programs read; nil makes one of its own.
// Sockets that exist already are found by Run.
func Open(sockets *ebpf.Map, log *slog.Logger) *Watcher {
	w := &Watcher{log: log}
	mount, mountErr := openCgroup2()
	proc := "/proc"
	if err := ownPIDs(); err != nil {
		proc = ""
		log.Warn("names of processes come from the kernel alone", "error", err)
	}
	w.resolver = newResolver(proc, mount, time.Now)
	err := w.load(sockets)
	created, scanned, accepted, cgroups := err, err, err, err
	if err == nil {
		created = mountErr
		if created == nil {
			created = w.attachCgroup(mount)
		}
		scanned = w.attachIterators()
		accepted = w.attachTracepoint(objects.OwnerProgEbbSetState)
		cgroups = w.attachTracepoint(objects.OwnerProgEbbCgroupMkdir)
	}
	w.setFeatures(created, scanned, accepted, cgroups)
	for _, f := range w.features {
		if f.Err != nil {
			log.Warn("feature is off", "feature", f.Name, "used_to", f.Need, "error", f.Err)
		}
	}
	return w
}

func (w *Watcher) setFeatures(created, scanned, accepted, cgroups error) {
	w.features = []flowbpf.Feature{
		{Name: "owner", Need: "name the process behind a new socket", Err: created},
		{Name: "owner_scan", Need: "find the owners of sockets that are open already", Err: scanned},
		{Name: "owner_mptcp", Need: "find the owners of Multipath TCP listeners that are open already", Err: accepted},
		{Name: "owner_cgroup", Need: "name containers that are gone before they are looked for", Err: cgroups},
	}
}

// Features returns what was tried, with the reason where it does not work.
func (w *Watcher) Features() []flowbpf.Feature { return w.features }

// Probe tries the features and leaves nothing behind.
func Probe(privileged bool) []flowbpf.Feature {
	w := &Watcher{}
	if !privileged {
		no := flowbpf.ErrNotTested
		w.setFeatures(no, no, no, no)
		return w.features
	}
	w = Open(nil, slog.New(slog.DiscardHandler))
	features := w.features
	if err := w.Close(); err != nil && features[0].Err == nil {
		features[0].Err = err
	}
	return features
}

// Owner names the process with this thread group id; false if nothing is known
// of it. It costs some system calls at most once a second for each process.
func (w *Watcher) Owner(pid uint32) (ebbwatch.Owner, bool) { return w.resolver.owner(pid) }

func (w *Watcher) load(sockets *ebpf.Map) error {
	spec, err := objects.LoadOwner()
	if err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	spec.Programs = nil
	opts := ebpf.CollectionOptions{}
	if sockets != nil {
		opts.MapReplacements = map[string]*ebpf.Map{objects.OwnerMapEbbSockets: sockets}
	}
	if w.maps, err = ebpf.NewCollectionWithOptions(spec, opts); err != nil {
		return fmt.Errorf("create maps of owners: %w", err)
	}
	w.resolver.noted = lookUp[uint32, seen](w.maps.Maps[objects.OwnerMapEbbOwners])
	paths := lookUp[uint64, objects.OwnerEbbCgroup](w.maps.Maps[objects.OwnerMapEbbCgroups])
	w.resolver.cgroup = func(id uint64) (string, bool) {
		cgroup, ok := paths(id)
		path := make([]byte, 0, len(cgroup.Path))
		for _, c := range cgroup.Path {
			if c == 0 {
				return string(path), ok
			}
			path = append(path, byte(c))
		}
		return "", false
	}
	return nil
}

// program loads one program beside the maps: each can fail alone.
func (w *Watcher) program(name string) (*ebpf.Program, error) {
	spec, err := objects.LoadOwner()
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: w.maps.Maps})
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	w.programs = append(w.programs, c)
	return c.Programs[name], nil
}

// rootCgroup is the inode of the root of the hierarchy.
const rootCgroup = 1

func (w *Watcher) attachCgroup(mount string) error {
	for name, kind := range map[string]ebpf.AttachType{
		objects.OwnerProgEbbSockCreate: ebpf.AttachCGroupInetSockCreate,
		objects.OwnerProgEbbPostBind4:  ebpf.AttachCGroupInet4PostBind,
		objects.OwnerProgEbbPostBind6:  ebpf.AttachCGroupInet6PostBind,
	} {
		prog, err := w.program(name)
		if err != nil {
			return err
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: mount, Attach: kind, Program: prog})
		if err != nil {
			return fmt.Errorf("attach to cgroup %s: %w", mount, err)
		}
		w.links = append(w.links, l)
	}
	var st unix.Stat_t
	if err := unix.Stat(mount, &st); err == nil && st.Ino != rootCgroup {
		w.log.Warn("only sockets of the agent's own cgroup are noted as they are made, others by scans: give its container the host's cgroup namespace", "mount", mount)
	}
	return nil
}

func (w *Watcher) attachIterators() error {
	for name, to := range map[string]**link.Iter{objects.OwnerProgEbbConfirm: &w.confirm, objects.OwnerProgEbbSettle: &w.settle} {
		prog, err := w.program(name)
		if err != nil {
			return err
		}
		it, err := link.AttachIter(link.IterOptions{Program: prog})
		if err != nil {
			return fmt.Errorf("attach iterator over open files: %w", err)
		}
		w.links = append(w.links, it)
		*to = it
	}
	return nil
}

func (w *Watcher) attachTracepoint(name string) error {
	prog, err := w.program(name)
	if err != nil {
		return err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attach to tracepoint: %w", err)
	}
	w.links = append(w.links, l)
	return nil
}

// Run scans the open files at once and then at a slow pace, until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	told := false
	for {
		took, err := w.Scan(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNoScan):
			<-ctx.Done()
			return nil
		case err != nil && !told:
			w.log.Warn("cannot look for the owners of open sockets", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(ScanEvery, scanShare*took)):
		}
	}
}

var errNoScan = errors.New("the iterator over open files is not there")

// Scan settles the owners of all sockets that a process has open, in every
// network namespace, and returns the time that it took.
func (w *Watcher) Scan(ctx context.Context) (time.Duration, error) {
	if w.confirm == nil || w.settle == nil {
		return 0, errNoScan
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	start := time.Now()
	if w.scan++; w.scan == 0 {
		w.scan = 1 // 0 is a socket that no scan has seen
	}
	if err := w.maps.Variables[objects.OwnerVarEbbScan].Set(w.scan); err != nil {
		return 0, fmt.Errorf("number the scan: %w", err)
	}
	for _, pass := range []*link.Iter{w.confirm, w.settle} {
		if err := exhaust(ctx, pass); err != nil {
			w.scans.failed++
			return time.Since(start), err
		}
	}
	w.scans.count++
	w.scans.last = time.Since(start)
	return w.scans.last, nil
}

// exhaust runs an iterator that returns no bytes to its end.
func exhaust(ctx context.Context, it *link.Iter) error {
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("look at open files: %w", err)
	}
	defer r.Close()
	buf := make([]byte, os.Getpagesize())
	for ctx.Err() == nil {
		_, err := r.Read(buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.EAGAIN): // a million files without a byte: ask again
		case err != nil:
			return fmt.Errorf("look at open files: %w", err)
		}
	}
	return fmt.Errorf("look at open files: %w", context.Cause(ctx))
}

// Close detaches and frees everything.
func (w *Watcher) Close() error {
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	for _, c := range w.programs {
		c.Close()
	}
	if w.maps != nil {
		w.maps.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close watcher of owners: %w", err)
	}
	return nil
}
