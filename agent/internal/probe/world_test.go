package probe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// hooks is an attacher that remembers what is attached, and looks whether it was
// called on a thread where the interface is.
type hooks struct {
	t         *testing.T
	mu        sync.Mutex
	attached  map[flowbpf.Place]string // the interface's name there
	peers     map[flowbpf.Place]uint32 // as told last
	forgotten []uint32
	room      int // 0 is any
}

func (h *hooks) Attach(p flowbpf.Place, peer uint32) error {
	l, err := netlink.LinkByIndex(int(p.Ifindex))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers[p] = peer
	if err != nil {
		delete(h.attached, p) // as the datapath does, whose hooks are gone with the interface
		return err
	}
	name, ok := h.attached[p]
	if !ok && h.room != 0 && len(h.attached) >= h.room {
		return flowbpf.ErrTooMany
	}
	h.attached[p] = l.Attrs().Name
	if ok && name == l.Attrs().Name {
		return flowbpf.ErrAttached
	}
	return nil
}

func (h *hooks) Detach(p flowbpf.Place) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.attached, p)
	return nil
}

func (h *hooks) Rest(p flowbpf.Place) error { return h.Detach(p) }

func (h *hooks) Forget(n uint32) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgotten = append(h.forgotten, n)
	maps.DeleteFunc(h.attached, func(p flowbpf.Place, _ string) bool { return p.NetNS == n })
	return nil
}

// watched names what is attached, as "netns/interface", and with what the probe
// calls it if that differs, as it may while an interface takes another's place.
func (h *hooks) watched(p *Probe) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for place, name := range h.attached {
		if got := p.Name(place); got != name {
			name += "=" + got
		}
		list = append(list, strings.TrimPrefix(p.NetNS(place)+"/"+name, "/"))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func newHooks(t *testing.T) *hooks {
	return &hooks{t: t, attached: make(map[flowbpf.Place]string), peers: make(map[flowbpf.Place]uint32)}
}

func everywhere(t *testing.T, cfg Config) (*Probe, *hooks, *prometheus.Registry) {
	t.Helper()
	cfg.Namespaces, cfg.MaxNamespaces = true, max(cfg.MaxNamespaces, 1)
	if cfg.MaxNamespaces == 1 {
		cfg.MaxNamespaces = 100
	}
	h := newHooks(t)
	reg := prometheus.NewRegistry()
	p := New(cfg, h, reg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	return p, h, reg
}

func TestInterfacesInNamespacesAreFoundNamedAndRelated(t *testing.T) {
	if !isolated(t) {
		return
	}
	nameSpace(t, "blue")
	c := process(t)
	other := process(t)
	plug(t, "veth1", "eth0", "/run/netns/blue")
	plug(t, "veth2", "eth0", nsPath(c.Process.Pid))
	p, h, reg := everywhere(t, Config{Include: []string{"veth*", "eth*"}})
	started := false
	p.Container = func(pid int) string {
		if started && pid == c.Process.Pid {
			return "0123456789ab"
		}
		return ""
	}
	must(t, p.sync(true))
	want := "0123456789ab/eth0 blue/eth0 veth1 veth2"
	if got := h.watched(p); got == want {
		t.Error("named before its process came to the container")
	}
	started = true
	must(t, p.sync(true))
	if got := h.watched(p); got != want {
		t.Errorf("watched: %s, want %s", got, want)
	}
	places := make(map[string]flowbpf.Place)
	for place := range h.attached {
		places[strings.TrimPrefix(p.NetNS(place)+"/"+p.Name(place), "/")] = place
	}
	for a := range places {
		for b := range places {
			related := a == b || strings.HasPrefix(a+b, "blue/eth0veth1") || a+b == "veth1blue/eth0" || a+b == "veth20123456789ab/eth0" || a+b == "0123456789ab/eth0veth2"
			if p.Related(places[a], places[b]) != related {
				t.Errorf("%s and %s are related: not %v", a, b, related)
			}
		}
	}
	// A container in a container.
	must(t, p.world.enter(p.world.spaces[inode(t, nsPath(c.Process.Pid))], func() error {
		f, err := os.Open(nsPath(other.Process.Pid))
		if err != nil {
			return err
		}
		defer f.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "ethx"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "ethy", PeerNamespace: netlink.NsFd(int(f.Fd()))}); err != nil {
			return err
		}
		l, err := netlink.LinkByName("ethx")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}))
	must(t, p.world.enter(p.world.spaces[inode(t, nsPath(other.Process.Pid))], func() error {
		l, err := netlink.LinkByName("ethy")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}))
	must(t, p.sync(true))
	var x, y flowbpf.Place
	for place := range h.attached {
		switch p.Name(place) {
		case "ethx":
			x = place
		case "ethy":
			y = place
		}
	}
	if !p.Related(x, y) || x == y {
		t.Errorf("%v and %v are not related; watched: %s", x, y, h.watched(p))
	}
	if got := p.NetNS(y); !strings.HasPrefix(got, "net:[") {
		t.Errorf("a namespace without a name is called %s", got)
	}
	if n := testutil.ToFloat64(p.metrics.perSpace.WithLabelValues("blue")); n != 1 {
		t.Errorf("%v interfaces in blue", n)
	}
	must(t, p.Close())
	if got := h.watched(p); got != "" {
		t.Errorf("after the end, still watched: %s", got)
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	target, err := os.Readlink(path)
	must(t, err)
	var n uint64
	_, err = fmt.Sscanf(target, "net:[%d]", &n)
	must(t, err)
	return n
}

// By default a container's end of a pair is not watched: the other one is.
func TestByDefaultContainersAddWhatTheHostDoesNotSee(t *testing.T) {
	if !isolated(t) {
		return
	}
	nameSpace(t, "blue")
	plug(t, "veth1", "eth0", "/run/netns/blue")
	p, h, _ := everywhere(t, DefaultConfig())
	must(t, p.sync(true))
	if got := h.watched(p); got != "veth1" {
		t.Errorf("watched: %s", got)
	}
	p.cfg.Exclude = []string{"veth*"}
	must(t, p.sync(true))
	if got := h.watched(p); got != "blue/eth0" {
		t.Errorf("without the host's end, watched: %s", got)
	}
}

// A namespace that is made right after another ended has its inode, as a rule, and
// here its name, and its interfaces have the same indices.
func TestANamespaceInThePlaceOfAnotherIsAnother(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, h, _ := everywhere(t, Config{Include: []string{"eth*", "net*"}})
	numbers := make(map[uint32]bool)
	same := 0
	for i := range 20 {
		nameSpace(t, "blue")
		plug(t, "veth1", fmt.Sprint("eth", i), "/run/netns/blue")
		before := maps.Clone(h.attached)
		must(t, p.sync(true))
		if got, want := h.watched(p), fmt.Sprintf("blue/eth%d", i); got != want {
			t.Fatalf("watched: %s, want %s", got, want)
		}
		for place := range h.attached {
			if numbers[place.NetNS] {
				t.Fatalf("number %d again", place.NetNS)
			}
			numbers[place.NetNS] = true
			for was := range before {
				if was.Ifindex == place.Ifindex {
					same++
				}
			}
		}
		unnameSpace(t, "blue")
		eventually(t, "the pair goes with its namespace, which nothing keeps", func() bool {
			_, err := netlink.LinkByName("veth1")
			return err != nil
		})
	}
	if same == 0 {
		t.Error("no interface had the index of the one before: the test shows nothing")
	}
}

func TestNamespacesThatComeAndGoLeaveNothingBehind(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, h, _ := everywhere(t, Config{Include: []string{"veth*", "eth*"}})
	losses := &watchedLosses{cookies: make(map[uint64]bool)}
	p.Losses = losses
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	round := func(i int) {
		for k := range 5 {
			name := fmt.Sprintf("n%d", k)
			nameSpace(t, name)
			eventually(t, "the pair before is gone", func() bool { _, err := netlink.LinkByName("veth" + name); return err != nil })
			plug(t, "veth"+name, "eth0", "/run/netns/"+name)
		}
		if i%10 == 0 {
			eventually(t, "all are watched, by their names", func() bool {
				watched := h.watched(p)
				return strings.Count(watched, " ") == 9 && !strings.Contains(watched, "=") && losses.count() == 5
			})
		}
		for k := range 5 {
			unnameSpace(t, fmt.Sprintf("n%d", k))
		}
	}
	clean := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.attached) == 0
	}
	round(0)
	eventually(t, "nothing is watched", clean)
	descriptors, threads := resources(t)
	goroutines := runtime.NumGoroutine()
	for i := range 60 {
		round(i)
	}
	eventually(t, "nothing is watched", clean)
	eventually(t, "no namespace is known", func() bool { return testutil.ToFloat64(p.metrics.namespaces) == 0 && losses.count() == 0 })
	p.Drained()
	p.Drained()
	p.Drained()
	time.Sleep(100 * time.Millisecond)
	d, th := resources(t)
	if d > descriptors+2 || th > threads+8 || runtime.NumGoroutine() > goroutines+2 {
		t.Errorf("%d descriptors, %d threads, %d goroutines; before %d, %d and %d", d, th, runtime.NumGoroutine(), descriptors, threads, goroutines)
	}
	if len(p.names.of) != 0 || len(p.names.spaces) != 0 {
		t.Errorf("names are kept: %v %v", p.names.of, p.names.spaces)
	}
	cancel()
	must(t, <-done)
	must(t, p.sync(true)) // the last look may have been while the last namespaces were there
	if len(p.world.spaces) != 0 {
		t.Errorf("namespaces are kept: %v", p.world.spaces)
	}
	must(t, p.Close())
}

// watchedLosses is in place of the kernel's list of namespaces whose losses are told.
type watchedLosses struct {
	mu      sync.Mutex
	cookies map[uint64]bool
}

func (w *watchedLosses) Watch(cookie uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cookies[cookie] = true
	return nil
}

func (w *watchedLosses) Unwatch(cookie uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cookies, cookie)
	return nil
}

func (w *watchedLosses) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.cookies)
}

func TestNamespacesBeyondTheLimitAreCounted(t *testing.T) {
	if !isolated(t) {
		return
	}
	for i := range 5 {
		nameSpace(t, fmt.Sprint("n", i))
	}
	must(t, os.WriteFile("/run/netns/broken", nil, 0o444)) // nothing is mounted on it
	p, h, _ := everywhere(t, Config{Include: []string{"lo"}, MaxNamespaces: 3})
	for _, s := range []string{"first", "again"} {
		must(t, p.sync(true))
		if n, refused := testutil.ToFloat64(p.metrics.namespaces), testutil.ToFloat64(p.metrics.refusedSpaces); n != 3 || refused != 2 {
			t.Errorf("%s: %v namespaces, %v refused; watched: %s", s, n, refused, h.watched(p))
		}
	}
}

func TestInterfacesBeyondTheRoomAreCounted(t *testing.T) {
	if !isolated(t) {
		return
	}
	for i := range 5 {
		nameSpace(t, fmt.Sprint("n", i))
		plug(t, fmt.Sprint("veth", i), "eth0", fmt.Sprint("/run/netns/n", i))
	}
	p, h, _ := everywhere(t, Config{Include: []string{"veth*", "eth*"}})
	h.room = 7
	for range 3 {
		must(t, p.sync(true))
		if refused := testutil.ToFloat64(p.metrics.refused); refused != 3 || len(h.attached) != 7 {
			t.Errorf("%v refused, watched: %s", refused, h.watched(p))
		}
	}
	if n := testutil.ToFloat64(p.metrics.attachFailures); n != 3 {
		t.Errorf("%v attempts failed, want 3: no second one within a moment", n)
	}
}

func TestALookAtManyNamespacesIsShort(t *testing.T) {
	if !isolated(t) {
		return
	}
	const n = 100
	for i := range n {
		name := fmt.Sprint("n", i)
		nameSpace(t, name)
		plug(t, "veth"+name, "eth0", "/run/netns/"+name)
	}
	p, h, _ := everywhere(t, DefaultConfig())
	must(t, p.sync(true))
	first := p.lookTook
	must(t, p.sync(true))
	t.Logf("a look at %d namespaces took %s, the first %s", n, p.lookTook, first)
	if p.lookTook > 2*time.Second || strings.Count(h.watched(p), " ") != n-1 {
		t.Errorf("a look took %s; watched: %s", p.lookTook, h.watched(p))
	}
}

func TestSurveyTellsWhatWouldBeWatched(t *testing.T) {
	if !isolated(t) {
		return
	}
	nameSpace(t, "blue")
	plug(t, "veth1", "eth0", "/run/netns/blue")
	cfg := DefaultConfig()
	cfg.Namespaces, cfg.Include = true, []string{"*0", "*1"}
	list, refused, err := Survey(cfg, nil)
	must(t, err)
	if got := fmt.Sprint(list, refused); got != "[{ [veth1] <nil>} {blue [eth0] <nil>}] 0" {
		t.Error(got)
	}
}

func TestHostileNamesAreMadePrintable(t *testing.T) {
	for _, c := range [][2]string{{"eth0", "eth0"}, {"e\xffth\n0", "e?th?0"}, {"a b", "a?b"}, {"ü\u202ex", "ü?x"}, {strings.Repeat("x", 100), strings.Repeat("x", 64)}, {"", ""}} {
		if got := printable(c[0], maxSpaceName); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}
