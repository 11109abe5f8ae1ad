package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

// holdVariable makes the test binary hold an engine, until it is killed, on the
// data folder that the variable names and the ports of portsVariable.
const (
	holdVariable  = "EBBWATCH_TEST_HOLD"
	portsVariable = "EBBWATCH_TEST_PORTS"
)

// TestMain lets the test binary stand in for the command: the engine is the
// same binary, run again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childCommand {
		cmd := ChildCommand()
		cmd.SetArgs(os.Args[2:])
		_ = cmd.Execute() // it has said what went wrong
		os.Exit(1)
	}
	if dir := os.Getenv(holdVariable); dir != "" {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

// hold runs an engine and says on standard output when it is ready.
func hold(path string) int {
	cfg := DefaultConfig()
	if _, err := fmt.Sscan(os.Getenv(portsVariable), &cfg.TCPPort, &cfg.HTTPPort); err != nil {
		return 2
	}
	dir, err := datadir.Open(path)
	if err != nil {
		return 3
	}
	e := New(cfg, dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	go func() {
		<-e.Ready()
		fmt.Println("ready")
	}()
	if err := e.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// needEngine skips the test where there is no engine, and fails it there in CI.
func needEngine(t *testing.T) {
	t.Helper()
	if err := DefaultConfig().Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func freeConfig(t *testing.T) Config {
	t.Helper()
	cfg := DefaultConfig()
	for _, p := range []*int{&cfg.TCPPort, &cfg.HTTPPort} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		*p = ln.Addr().(*net.TCPAddr).Port
	}
	return cfg
}

func openDir(t *testing.T) *datadir.Dir {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// start runs an engine and returns it with what stops it.
func start(t *testing.T, cfg Config, dir *datadir.Dir) (*Engine, func()) {
	t.Helper()
	e := New(cfg, dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("Run: %v", err)
	}
	return e, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// query runs a query as user, on a connection of its own, and returns the answer or
// the error's text.
func query(t *testing.T, cfg Config, dir *datadir.Dir, user, text string) (string, error) {
	t.Helper()
	req := request(t, cfg, dir, user, text)
	req.Close = true
	return answer(http.DefaultClient, req)
}

// request returns a query of user.
func request(t *testing.T, cfg Config, dir *datadir.Dir, user, text string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+port.Loopback(cfg.HTTPPort)+"/?wait_end_of_query=1", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-ClickHouse-User", user)
	if user == Collector || user == Writer || user == Analyzer {
		password, err := os.ReadFile(dir.SecretPath(SecretPrefix + user))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-ClickHouse-Key", strings.TrimSpace(string(password)))
	}
	return req
}

// answer returns what a query says, or the error's text.
func answer(client *http.Client, req *http.Request) (string, error) {
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(body))
	}
	return strings.TrimSpace(string(body)), err
}

func mustQuery(t *testing.T, cfg Config, dir *datadir.Dir, user, text string) string {
	t.Helper()
	answer, err := query(t, cfg, dir, user, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

func TestRowsSurviveTheEngine(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
	mustQuery(t, cfg, dir, Collector, "CREATE TABLE ebbwatch.flows (a UInt32) ENGINE = MergeTree ORDER BY a")
	mustQuery(t, cfg, dir, Collector, "INSERT INTO ebbwatch.flows SELECT number FROM numbers(1000)")
	stop()
	if _, err := query(t, cfg, dir, Reader, "SELECT 1"); err == nil {
		t.Error("the engine answers after it was stopped")
	}

	_, stop = start(t, cfg, dir)
	defer stop()
	if got := mustQuery(t, cfg, dir, Reader, "SELECT count(), sum(a) FROM ebbwatch.flows"); got != "1000\t499500" {
		t.Errorf("got %q, want 1000 rows", got)
	}
}

func TestAnEngineThatDiesIsStartedAgain(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
	children := childrenOf(t, os.Getpid())
	if len(children) != 1 {
		t.Fatalf("children %v, want one", children)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", children[0])); err != nil || string(comm) != "clickhouse\n" {
		t.Errorf("the process is called %q: %v", comm, err)
	}
	if err := syscall.Kill(children[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the engine answers again", func() bool {
		got, err := query(t, cfg, dir, Collector, "EXISTS DATABASE ebbwatch")
		return err == nil && got == "1"
	})
	if again := childrenOf(t, os.Getpid()); len(again) != 1 || again[0] == children[0] {
		t.Errorf("children %v, want one that is not %v", again, children)
	}
}

func TestAnIdleClientDoesNotHoldTheStopUp(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	conn, err := net.Dial("tcp", port.Loopback(cfg.TCPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	started := time.Now()
	stop()
	if took := time.Since(started); took > stopTimeout+time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestNoOrphanIsLeftWhenTheParentIsKilled(t *testing.T) {
	needEngine(t)
	cfg := freeConfig(t)
	path := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), holdVariable+"="+path, fmt.Sprintf("%s=%d %d", portsVariable, cfg.TCPPort, cfg.HTTPPort))
	parent.Stderr = t.Output()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready"))); err != nil {
		t.Fatalf("the parent did not become ready: %v", err)
	}
	children := childrenOf(t, parent.Process.Pid)
	if len(children) != 1 {
		t.Fatalf("children %v, want one", children)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	eventually(t, 5*time.Second, "the engine ends with its parent", func() bool {
		return errors.Is(syscall.Kill(children[0], 0), syscall.ESRCH) || isZombie(children[0])
	})
	// The next start has the folder and the ports.
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, stop := start(t, cfg, dir)
	stop()
}

func TestATakenPortNamesItsKey(t *testing.T) {
	needEngine(t)
	cfg := freeConfig(t)
	ln, err := net.Listen("tcp", port.Loopback(cfg.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = New(cfg, openDir(t), slog.New(slog.DiscardHandler)).Run(t.Context())
	if !errors.Is(err, port.ErrTaken) || !strings.Contains(err.Error(), "clickhouse.http_port") {
		t.Errorf("Run: %v, want ErrTaken that names clickhouse.http_port", err)
	}
}

func TestAnEngineThatCannotStartSaysWhy(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	cfg.Library = os.Args[0] // a file, but no library of ours
	err := New(cfg, dir, slog.New(slog.DiscardHandler)).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "load engine") {
		t.Errorf("Run: %v, want why it cannot be loaded", err)
	}
}

func TestAMissingEngineSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("EBBWATCH_CACHE", t.TempDir())
	err := DefaultConfig().Find()
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "scripts/setup-clickhouse.sh") {
		t.Errorf("Find: %v, want ErrMissing with the script", err)
	}
}

func TestABinaryThatIsTooOldIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, says string
		want       error
	}{
		{"the oldest supported", "ClickHouse server version 25.8.1.5101 (official build).", nil},
		{"a newer one", "ClickHouse server version 26.7.3.1 (official build).", nil},
		{"one release before", "ClickHouse server version 25.7.9.1 (official build).", ErrTooOld},
		{"Debian's", "ClickHouse server version 18.16.1.", ErrTooOld},
	} {
		t.Run(c.name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "clickhouse")
			if err := os.WriteFile(binary, []byte("#!/bin/sh\necho '"+c.says+"'\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := checkVersion(t.Context(), binary); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
