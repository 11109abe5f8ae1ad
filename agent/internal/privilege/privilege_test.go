package privilege_test

import (
	"bytes"
	"errors"
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

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/privilege"
)

const role = "EBBWATCH_TEST_PRIVILEGE"

func three() privilege.Set { return privilege.Of(privilege.BPF, privilege.NetAdmin, privilege.Perfmon) }

// build returns this package's tests as a program that is not linked with C, as
// the agent is not: the race detector's are.
func build(t *testing.T) string {
	t.Helper()
	if os.Getenv(role) != "" {
		return ""
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	// Other users may not go to where tests are built.
	dir, err := os.MkdirTemp("/tmp", "ebbwatch-privilege") //nolint:usetesting // other users may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "privilege.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// inChild runs the calling test again as a process of its own, with these
// attributes, and returns false in the parent.
func inChild(t *testing.T, binary string, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(role) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run="+exactly(t.Name()), "-test.v")
	cmd.Env = append(os.Environ(), role+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func as(user uint32, capabilities ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, AmbientCaps: capabilities}
}

func TestProcessGivesUpWhatItDoesNotNeed(t *testing.T) {
	binary := build(t)
	const user = 65534
	for _, c := range []struct {
		name string
		attr *syscall.SysProcAttr
		run  func(*testing.T)
	}{
		{"root keeps three on every thread", nil, rootKeepsThree},
		{"an ordinary user with exactly three keeps them", as(user, unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON), ordinaryUserKeepsThree},
		{"CAP_SYS_ADMIN stands for what was split off from it", as(user, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_KILL), sysAdminStays},
		{"root has three from the beginning after a restart", nil, restarted},
		{"an ordinary user has three from the beginning after a restart",
			as(user, unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE), restarted},
	} {
		t.Run(c.name, func(t *testing.T) {
			if inChild(t, binary, c.attr) {
				c.run(t)
			}
		})
	}
}

// threads checks every thread of this process, of which there are many.
func threads(t *testing.T, want privilege.State) {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(paths) < 5 {
		t.Fatalf("%d threads, %v", len(paths), err)
	}
	for _, p := range paths {
		got, err := privilege.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", p, got, want)
		}
	}
}

// occupy keeps n threads busy with work of their own.
func occupy(t *testing.T, n int) {
	t.Helper()
	started, stop := make(chan bool), make(chan bool)
	for range n {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started <- true
			<-stop
		}()
	}
	for range n {
		<-started
	}
	t.Cleanup(func() { close(stop) })
}

func rootKeepsThree(t *testing.T) {
	occupy(t, 8)
	after, err := privilege.Drop(three())
	if err != nil {
		t.Fatal(err)
	}
	want := privilege.State{Effective: three(), Permitted: three(), Bounding: three(), NoNewPrivs: true}
	if after != want {
		t.Errorf("%+v", after)
	}
	occupy(t, 8) // made afterwards
	threads(t, want)
	refused(t)
	if _, err := privilege.Drop(three()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// refused tries what root may and the agent may not any more.
func refused(t *testing.T) {
	t.Helper()
	if err := unix.Chroot("/"); !errors.Is(err, unix.EPERM) {
		t.Errorf("chroot: %v", err)
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); !errors.Is(err, unix.EPERM) {
		t.Errorf("unshare: %v", err)
	}
	if ln, err := net.Listen("tcp", "127.0.0.1:81"); !errors.Is(err, unix.EACCES) {
		if err == nil {
			ln.Close()
		}
		t.Errorf("listen below 1024: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), "/bin/grep", "Cap", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); f[1] != "0000000000000000" && f[1] != fmt.Sprintf("%016x", uint64(three())) {
			t.Errorf("a program that it runs has %s", line)
		}
	}
}

func ordinaryUserKeepsThree(t *testing.T) {
	before, err := privilege.Read()
	if err != nil {
		t.Fatal(err)
	}
	if before.Effective != three() || before.Ambient != three() {
		t.Fatalf("began with %+v", before)
	}
	occupy(t, 4)
	if _, err := privilege.Drop(three() | privilege.Of(privilege.SysPtrace)); err != nil {
		t.Fatal(err)
	}
	threads(t, privilege.State{Effective: three(), Permitted: three(), Bounding: before.Bounding, NoNewPrivs: true})
}

func sysAdminStays(t *testing.T) {
	after, err := privilege.Drop(three())
	if want := privilege.Of(privilege.SysAdmin, privilege.NetAdmin); err != nil || after.Effective != want {
		t.Errorf("%+v, %v", after, err)
	}
}

// The way of a binary that is linked with C, here tried in one that is not.
func restarted(t *testing.T) {
	const mark = "EBBWATCH_TEST_PRIVILEGE_PID"
	pid := os.Getenv(mark)
	if pid == "" {
		t.Setenv(mark, fmt.Sprint(os.Getpid()))
	}
	if err := privilege.Restart(three()); err != nil {
		t.Fatal(err)
	}
	if pid != fmt.Sprint(os.Getpid()) {
		t.Fatalf("process %d, was %q", os.Getpid(), pid)
	}
	state, err := privilege.Read()
	if err != nil || state.Effective != three() || state.Permitted != three() || !state.NoNewPrivs || os.Getuid() == 0 && state.Bounding != three() {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestNames(t *testing.T) {
	if got := (three() | 1<<7).String(); got != "CAP_7 CAP_NET_ADMIN CAP_PERFMON CAP_BPF" {
		t.Error(got)
	}
	if got := privilege.Set(0).String(); got != "none" {
		t.Error(got)
	}
	needs := []privilege.Need{{Capability: privilege.BPF}, {Capability: privilege.SysAdmin}}
	if got := privilege.Needed(needs); got.Len() != 2 || !got.Has(privilege.SysAdmin) {
		t.Error(got)
	}
}

// exactly is the pattern of one test or subtest.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
