package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running `ebbwatch up`.
type process struct {
	cmd    *exec.Cmd
	output lockedBuffer
	done   chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// up starts the command in the watched namespace and waits for its banner.
func (l lab) up(t *testing.T, bin, data string) *process {
	t.Helper()
	p := &process{done: make(chan struct{})}
	// `ip netns exec` becomes the command, so the process is the command's own.
	p.cmd = exec.Command("ip", "netns", "exec", l.watched, bin, "up", "--data", data)
	p.cmd.Env = append(os.Environ(), "EBBWATCH_AGENT_DRAIN_INTERVAL=1s", "EBBWATCH_AGENT_NAME=watched")
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the status is read from ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // ended already is fine
		<-p.done
		if t.Failed() {
			t.Logf("output of up:\n%s", p.output.String())
		}
	})
	eventually(t, 60*time.Second, "up is running", func() bool {
		select {
		case <-p.done:
			t.Fatalf("up ended: %s", p.output.String())
		default:
		}
		return strings.Contains(p.output.String(), "Ebbwatch is running")
	})
	return p
}

// interrupt presses Ctrl-C and checks that all ends well and soon.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	children := childrenOf(t, p.cmd.Process.Pid)
	if len(children) != 1 {
		t.Errorf("children %v, want the engine", children)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Fatal("still running 10 s after an interrupt")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	for _, child := range children {
		if !gone(child) {
			t.Errorf("process %d was left behind", child)
		}
	}
}

func TestUpWatchesStoresStopsAndFindsItsDataAgain(t *testing.T) {
	need(t)
	bin, data, l := command(t), filepath.Join(t.TempDir(), "data"), newLab(t)
	p := l.up(t, bin, data)
	l.send(t, 9999, 50)
	const packets = "SELECT sum(src_packets) FROM flows WHERE dst_port = 9999 AND dst_ip = toIPv6('" + watchedAddress + "') AND agent = 'watched'"
	l.expect(t, packets, "50")
	page, err := l.fetch("http://127.0.0.1:8460/", "")
	if err != nil {
		t.Errorf("page: %v", err)
	} else if !strings.Contains(strings.ToLower(page), "<html") {
		t.Errorf("page is no HTML: %.200s", page)
	}
	if _, err := l.query("INSERT INTO flows (agent) VALUES ('x')"); err == nil {
		t.Error("the reader may write")
	}
	l.send(t, 9999, 30) // what was seen just before the end is kept
	p.interrupt(t)

	p = l.up(t, bin, data)
	l.expect(t, packets, "80")
	p.interrupt(t)
}

func TestUpKilledLeavesNoChildAndStartsAgain(t *testing.T) {
	need(t)
	bin, data, l := command(t), filepath.Join(t.TempDir(), "data"), newLab(t)
	p := l.up(t, bin, data)
	children := childrenOf(t, p.cmd.Process.Pid)
	if len(children) != 1 {
		t.Fatalf("children %v, want the engine", children)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	eventually(t, 5*time.Second, "the engine ends with its parent", func() bool { return gone(children[0]) })
	l.up(t, bin, data).interrupt(t)
}

func TestUpEndsWithOneSentence(t *testing.T) {
	need(t)
	bin, l := command(t), newLab(t)
	taken := strconv.Itoa(l.listen(t))
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		want    []string
	}{
		{"a taken page port", []string{"--page-port", taken}, nil, []string{taken, "analyzer.listen", "--page-port"}},
		{"a taken NATS port", []string{"--nats-port", taken}, nil, []string{taken, "nats.listen", "--nats-port"}},
		{"a taken ClickHouse port", []string{"--clickhouse-http-port", taken}, nil, []string{taken, "clickhouse.http_port"}},
		{"a missing engine", nil, []string{"EBBWATCH_CACHE=/nonexistent"}, []string{"scripts/setup-clickhouse.sh"}},
		{"a data folder that cannot be made", []string{"--data", "/proc/ebbwatch"}, nil, []string{"/proc/ebbwatch", "data_dir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("ip", append([]string{"netns", "exec", l.watched, bin, "up", "--data", t.TempDir()}, c.args...)...)
			cmd.Env = append(os.Environ(), c.environ...)
			out, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Fatalf("%v, want exit status 1: %s", err, out)
			}
			if strings.Count(string(out), "\n") != 1 {
				t.Errorf("more than one line:\n%s", out)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q does not name %s", out, want)
				}
			}
		})
	}
}

// expect waits until a query has that answer.
func (l lab) expect(t *testing.T, query, want string) {
	t.Helper()
	var got string
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, err = l.query(query); err == nil && got == want {
			return
		}
	}
	t.Fatalf("%s: got %q (error %v), want %q", query, got, err, want)
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// childrenOf returns the living processes whose parent is pid.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, file := range files {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if state, parent, err := stat(child); err == nil && parent == pid && state != "Z" {
			children = append(children, child)
		}
	}
	return children
}

// gone reports whether a process has ended, waited for or not.
func gone(pid int) bool {
	state, _, err := stat(pid)
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && state == "Z"
}

func stat(pid int) (state string, parent int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	// The name, in parentheses, may hold anything.
	_, err = fmt.Sscan(string(data[bytes.LastIndexByte(data, ')')+1:]), &state, &parent)
	return state, parent, err
}
