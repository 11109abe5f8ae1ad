package probe

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestMain keeps the main thread, by which /proc knows the process, out of other
// namespaces: no test runs on it.
func TestMain(m *testing.M) {
	if os.Getenv(waits) != "" {
		time.Sleep(100 * time.Second)
		return
	}
	runtime.LockOSThread()
	os.Exit(m.Run())
}

// isolated runs the calling test in a process of its own that sees no other: in
// new network, process and mount namespaces with a /proc and an empty /run of
// their own. It returns false in the parent, which has nothing left to do.
func isolated(t *testing.T) bool {
	t.Helper()
	const marker = "EBBWATCH_TEST_ISOLATED"
	if os.Getenv(marker) != "" {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount("proc", "/proc", "proc", 0, ""))
		must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
		must(t, os.Mkdir("/run/netns", 0o755))
		return true
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout=100s")
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Logf("isolated:\n%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatal("the test did not run")
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inNew runs f in a new network namespace, which ends after it unless f keeps it.
func inNew(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	must(t, <-done)
}

// nameSpace makes a namespace that has a file, as ip-netns(8) does.
func nameSpace(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join("/run/netns", name)
	must(t, os.WriteFile(path, nil, 0o444))
	inNew(t, func() error { return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "") })
}

func unnameSpace(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join("/run/netns", name)
	must(t, unix.Unmount(path, unix.MNT_DETACH))
	must(t, os.Remove(path))
}

// waits, in the environment, makes this program one that does nothing.
const waits = "EBBWATCH_TEST_WAITS"

// process starts one in a new namespace.
func process(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), waits+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} // it ends with the process namespace
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func nsPath(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/ns/net" }

// plug makes a veth pair from here into the namespace at path.
func plug(t *testing.T, near, far, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = near, unix.IFF_UP
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerNamespace: netlink.NsFd(int(f.Fd()))}))
	l, err := netlink.LinkByName(near)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	inside(t, f, func() error { return setUp(far) })
}

// inside runs f in a namespace.
func inside(t *testing.T, space *os.File, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	must(t, <-done)
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func remove(t *testing.T, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkDel(l))
}

// eventually waits until what is true.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// descriptors and threads of this process.
func resources(t *testing.T) (descriptors, threads int) {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	th, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(d), len(th)
}
