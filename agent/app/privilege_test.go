package app_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/privilege"
	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

// buildAgent returns the real binary, in a folder that every user may enter. What
// the parent of a test in a namespace has built is there already.
func buildAgent(t *testing.T, cgo string) string {
	t.Helper()
	built := "EBBWATCH_TEST_AGENT_CGO_" + cgo
	if binary := os.Getenv(built); binary != "" {
		return binary
	}
	dir, err := os.MkdirTemp("/tmp", "ebbwatch-agent") //nolint:usetesting // other users may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "ebbwatch-agent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/ebbwatch/ebbwatch/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv(built, binary)
	return binary
}

// holds checks what every thread of the process may do.
func holds(t *testing.T, pid int, want privilege.State) {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(paths) < 3 {
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

// spooled returns the records that an agent left on disk.
func spooled(t *testing.T, dir string) (flows []ebbwatch.Flow) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() { // as it must be to open the folder
		if err := os.Chown(dir, os.Geteuid(), -1); err != nil {
			t.Fatal(err)
		}
	}
	s := spool.New(spool.Config{Dir: dir, MaxBytes: 1 << 30}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var decoder ebbwatch.Decoder
	var b ebbwatch.Batch
	for _, r := range s.Take(1000, 1<<30) {
		if err := decoder.Decode(r.Data, &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			flows = append(flows, b.Flow(i))
		}
	}
	return flows
}

func TestAgentWorksOnWithWhatItKeeps(t *testing.T) {
	const nobody = 65534
	three := privilege.Of(privilege.BPF, privilege.NetAdmin, privilege.Perfmon)
	bind := three | privilege.Of(privilege.NetBindService)
	all := &syscall.SysProcAttr{}
	exactly := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}}
	full, err := privilege.Read()
	if err != nil {
		t.Fatal(err)
	}
	buildAgent(t, "0")
	buildAgent(t, "1")
	for _, c := range []struct {
		name, cgo, log string
		attr           *syscall.SysProcAttr
		env            string // one more variable
		want           privilege.State
	}{
		{"root", "0", `when="once the programs were loaded"`, all, "", privilege.State{Effective: three, Permitted: three, Bounding: three, NoNewPrivs: true}},
		{"root, and a listener on a low port", "0", `when="once the programs were loaded"`, all, "EBBWATCH_LISTEN=127.0.0.1:846",
			privilege.State{Effective: bind, Permitted: bind, Bounding: bind, NoNewPrivs: true}},
		{"an ordinary user with exactly three", "0", `when="once the programs were loaded"`, exactly, "", privilege.State{Effective: three, Permitted: three, Bounding: full.Bounding, NoNewPrivs: true}},
		{"root, linked with C", "1", `when="before any program was loaded"`, all, "",
			privilege.State{Effective: three, Permitted: three, Inheritable: three, Ambient: three, Bounding: three, NoNewPrivs: true}},
		{"root, where /proc hides processes", "0", `when="once the programs were loaded"`, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}, "EBBWATCH_TEST_HIDEPID=1",
			privilege.State{Effective: three, Permitted: three, Bounding: three, NoNewPrivs: true}},
		{"root, not wanted", "0", "agent starts", all, "EBBWATCH_DROP_PRIVILEGES=false", full},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !inNamespace(t) {
				return
			}
			binary := buildAgent(t, c.cgo)
			dir, err := os.MkdirTemp(filepath.Dir(binary), "spool") //nolint:usetesting // likewise
			if err != nil {
				t.Fatal(err)
			}
			if cred := c.attr.Credential; cred != nil {
				if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
					t.Fatal(err)
				}
			}
			first, second := newHost(t), newHost(t)
			first.connect("w0", "w1", 1)
			var log bytes.Buffer
			cmd := exec.CommandContext(t.Context(), binary, "run")
			if strings.HasPrefix(c.env, "EBBWATCH_TEST_HIDEPID") {
				cmd = exec.CommandContext(t.Context(), "/bin/sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec "+binary+" run")
			}
			cmd.Dir = "/"
			cmd.Env = append(os.Environ(), "EBBWATCH_NATS_URL=nats://127.0.0.1:1", "EBBWATCH_DRAIN_INTERVAL=200ms", "EBBWATCH_LISTEN="+opsAddress, "EBBWATCH_SPOOL_DIR="+dir, c.env)
			cmd.Stderr, cmd.SysProcAttr = &log, c.attr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := &running{t: t}
			if address, ok := strings.CutPrefix(c.env, "EBBWATCH_LISTEN="); ok {
				r.ops = address
			}
			r.watches(1)
			r.drains(1)
			holds(t, cmd.Process.Pid, c.want)

			second.connect("x0", "x1", 2)
			r.watches(2) // hot-plug
			second.run(func() error { return serveTCP(t, "10.2.0.2:7000", 10) })
			if _, _, err := callTCP("10.2.0.2:7000", 10); err != nil {
				t.Fatal(err)
			}
			r.drains(2)
			holds(t, cmd.Process.Pid, c.want)
			r.shows("\nebbwatch_agent_spool_usable 1\n", true)
			if r.metric("ebbwatch_agent_spool_batches") == 0 || r.metric("ebbwatch_agent_attach_failures_total") != 0 {
				t.Errorf("%d batches on disk, %d failures to attach", r.metric("ebbwatch_agent_spool_batches"), r.metric("ebbwatch_agent_attach_failures_total"))
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			f := conversation(t, spooled(t, dir), ebbwatch.ProtoTCP, "10.2.0.1:", "10.2.0.2:7000")
			if f.Interface != "x0" || f.SrcOwner.PID != uint32(os.Getpid()) || f.SrcOwner.Process == "" {
				t.Errorf("on the interface that came later: %+v", f)
			}
			// Warnings: NATS is away, and batches stay on disk.
			if !strings.Contains(log.String(), c.log) || strings.Contains(log.String(), "ERROR") || strings.Count(log.String(), "WARN") != 2 || t.Failed() {
				t.Errorf("want %q, two warnings and no error in the log:\n%s", c.log, log.String())
			}
		})
	}
}

func TestDoctorTellsWhatIsKept(t *testing.T) {
	t.Setenv("EBBWATCH_LISTEN", "127.0.0.1:80")
	out, _ := execute(t, "doctor")
	for _, want := range []string{"privileges", "keeps CAP_BPF (read and swap maps)", "CAP_NET_BIND_SERVICE (listen on port 80)", "gives up "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	t.Setenv("EBBWATCH_DROP_PRIVILEGES", "false")
	if out, _ = execute(t, "doctor"); !strings.Contains(out, "drop_privileges is off") {
		t.Errorf("switched off:\n%s", out)
	}
}
