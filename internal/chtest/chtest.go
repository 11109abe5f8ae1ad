// Package chtest starts a real ClickHouse for a test: the local engine of
// `ebbwatch engine`, on free ports and a temporary data folder.
package chtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Names of the users that a server has. The collector owns the databases, the
// writer inserts what agents tell, the analyzer reads and inserts what it
// concludes, the reader (no password) reads within limits.
const (
	Collector = "collector"
	Writer    = "writer"
	Analyzer  = "analyzer"
	Reader    = "reader"
)

// exitNoEngine is the exit status of `ebbwatch engine` without an engine.
const exitNoEngine = 4

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
	databases    = 32
)

// Server is a running ClickHouse.
type Server struct {
	Addr     string // host:port, native protocol
	HTTPAddr string // host:port
	Database string // the first database that the users may use; nothing has created it
	DataDir  string

	CollectorPassword string
	WriterPassword    string
	AnalyzerPassword  string

	mu   sync.Mutex
	used int // databases that NewDatabase gave away
}

// Start starts a server that ends with the test. Without an engine on this host
// the test is skipped, or fails where CI=true.
func Start(t testing.TB) *Server {
	t.Helper()
	names := make([]string, databases)
	for i := range names {
		names[i] = databaseName(i)
	}
	return attempt(t, func(bin string) ([]*Server, int, string) {
		s := newServer(t)
		code, output := s.start(t, bin, names)
		return []*Server{s}, code, output
	})[0]
}

// attempt starts servers, again if another process took a free port before they
// did. start returns the exit status and the output of the one that failed.
func attempt(t testing.TB, start func(bin string) (servers []*Server, code int, output string)) []*Server {
	t.Helper()
	bin := Binary(t)
	var reason string
	for range 3 {
		servers, code, output := start(bin)
		switch {
		case code == running:
			return servers
		case code == exitNoEngine && os.Getenv("CI") != "true":
			t.Skip(output)
		case code == exitNoEngine:
			t.Fatal(output)
		}
		reason = output
	}
	t.Fatalf("start clickhouse: %s", reason)
	return nil
}

// NewDatabase creates a database that no other caller of s has and returns its
// name. There are 31.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.used++
	used := s.used
	s.mu.Unlock()
	if used >= databases {
		t.Fatalf("no database left: a server has %d", databases-1)
	}
	name := databaseName(used)
	s.Query(t, "CREATE DATABASE "+name)
	return name
}

// Query runs a query as the collector and returns its result, tab separated and
// without the last line end. An error fails the test.
func (s *Server) Query(t testing.TB, query string) string {
	t.Helper()
	result, err := s.QueryAs(Collector, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return result
}

// QueryAs runs a query as the user of that name, without a current database.
func (s *Server) QueryAs(user, query string) (string, error) { return s.QueryIn(user, "", query) }

// QueryIn runs a query as the user of that name in the database.
func (s *Server) QueryIn(user, database, query string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTPAddr+"/?"+url.Values{"wait_end_of_query": {"1"}, "database": {database}}.Encode(), strings.NewReader(query))
	if err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	req.Header.Set("X-ClickHouse-User", user)
	req.Header.Set("X-ClickHouse-Key", map[string]string{Collector: s.CollectorPassword, Writer: s.WriterPassword, Analyzer: s.AnalyzerPassword}[user])
	req.Close = true // the engine waits for idle connections when it stops
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("query: %s", bytes.TrimSpace(body))
	}
	return strings.TrimSuffix(string(body), "\n"), nil
}

func newServer(t testing.TB) *Server {
	return &Server{Addr: freeAddr(t), HTTPAddr: freeAddr(t), Database: databaseName(0), DataDir: t.TempDir()}
}

// running stands for the exit status of a server that has none.
const running = -1

// start starts the server, and returns running, or the exit status of the command
// and what it printed.
func (s *Server) start(t testing.TB, bin string, names []string) (code int, output string) {
	t.Helper()
	// --end-with-stdin: the engine ends with this process, however it ends.
	cmd := exec.Command(bin, "engine", "--end-with-stdin")
	cmd.Env = append(os.Environ(), "EBBWATCH_DATA_DIR="+s.DataDir,
		"EBBWATCH_CLICKHOUSE_TCP_PORT="+port(s.Addr), "EBBWATCH_CLICKHOUSE_HTTP_PORT="+port(s.HTTPAddr),
		"EBBWATCH_CLICKHOUSE_DATABASES=["+strings.Join(names, ",")+"]")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", bin, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the status is read from ProcessState
		close(done)
	}()
	t.Cleanup(func() {
		stdin.Close()
		select {
		case <-done:
		case <-time.After(stopTimeout):
			t.Errorf("clickhouse did not stop within %s, killing it", stopTimeout)
			_ = cmd.Process.Kill() // ended already is fine
			<-done
		}
		if t.Failed() {
			t.Logf("output of the engine:\n%s", log.String())
		}
	})
	deadline := time.After(startTimeout)
	for {
		select {
		case <-done:
			why, _ := os.ReadFile(filepath.Join(s.DataDir, "clickhouse-log", "clickhouse.err.log")) // missing if it ended before
			return cmd.ProcessState.ExitCode(), strings.TrimSpace(log.String() + "\n" + string(why[max(0, len(why)-4000):]))
		case <-deadline:
			t.Fatalf("clickhouse did not answer within %s", startTimeout)
		case <-time.After(50 * time.Millisecond):
		}
		if s.login() == nil {
			return running, ""
		}
	}
}

// login reads the generated passwords and tries them.
func (s *Server) login() error {
	for user, password := range map[string]*string{Collector: &s.CollectorPassword, Writer: &s.WriterPassword, Analyzer: &s.AnalyzerPassword} {
		data, err := os.ReadFile(filepath.Join(s.DataDir, "secrets", "clickhouse-"+user))
		if err != nil {
			return err
		}
		*password = strings.TrimSpace(string(data))
		if _, err := s.QueryAs(user, "SELECT 1"); err != nil {
			return err
		}
	}
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func databaseName(i int) string {
	if i == 0 {
		return "ebbwatch"
	}
	return "ebbwatch_" + strconv.Itoa(i)
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
