package app_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestMain keeps the main thread, by which /proc knows the process, in its
// namespace: no test runs on it.
func TestMain(m *testing.M) {
	runtime.LockOSThread()
	os.Exit(m.Run())
}

// inNamespace runs the calling test in a process of its own, in a network
// namespace of its own that ends with it. It returns false in the parent, which
// has nothing left to do.
func inNamespace(t *testing.T) bool {
	t.Helper()
	return inNamespaces(t, unix.CLONE_NEWNET)
}

// isolated is inNamespace where the process sees no other one and no namespace
// that has a name: with a /proc and an empty /run of its own.
func isolated(t *testing.T) bool {
	t.Helper()
	if !inNamespaces(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS) {
		return false
	}
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""), os.Mkdir("/run/netns", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return true
}

func inNamespaces(t *testing.T, flags uintptr) bool {
	t.Helper()
	const marker = "EBBWATCH_TEST_NAMESPACE"
	if os.Getenv(marker) != "" {
		up(t, "lo")
		return true
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+exactly(t.Name()), "-test.v", "-test.timeout="+(2*time.Minute+outage(t)).String())
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Logf("in the namespace:\n%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		reasons := said.FindAllSubmatch(out, -1)
		if len(reasons) == 0 {
			t.Fatal("the test skipped itself and does not say why")
		}
		t.Skip(string(reasons[len(reasons)-1][1]))
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatal("the test did not run in the namespace")
	}
	return false
}

// said is what a test logs.
var said = regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: (.*)$`)

// exactly is the pattern of one test or subtest.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func up(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
	return link
}

// host is another network namespace: a neighbour of the one the test runs in.
type host struct {
	t  *testing.T
	do chan func()
}

// newHost makes a namespace. It lives as long as its thread, which belongs to
// nobody else and ends with the test.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, do: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range h.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make namespace: %v", err)
	}
	t.Cleanup(func() { close(h.do) })
	return h
}

// call gives the namespace a name, by which an agent finds it.
func (h *host) call(name string) {
	h.t.Helper()
	path := filepath.Join("/run/netns", name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		h.t.Fatal(err)
	}
	h.run(func() error { return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "") })
}

// run calls f in the namespace and waits. Sockets that f opens stay there. f
// must not end the test.
func (h *host) run(f func() error) {
	h.t.Helper()
	done := make(chan error)
	h.do <- func() { done <- f() }
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// connect joins the test's namespace and h by a veth pair: near with
// 10.subnet.0.1/24 and fd00:subnet::1/64 here, far with .2 there.
func (h *host) connect(near, far string, subnet int) {
	h.t.Helper()
	var fd int
	h.run(func() (err error) {
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = near
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerNamespace: netlink.NsFd(fd)}); err != nil {
		h.t.Fatalf("add veth: %v", err)
	}
	if err := address(near, subnet, 1); err != nil {
		h.t.Fatal(err)
	}
	h.run(func() error { return address(far, subnet, 2) })
}

func address(name string, subnet, number int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, cidr := range []string{fmt.Sprintf("10.%d.0.%d/24", subnet, number), fmt.Sprintf("fd00:%d::%d/64", subnet, number)} {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", cidr, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// route sends everything for cidr through gateway.
func route(cidr, gateway string) error {
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)})
}
