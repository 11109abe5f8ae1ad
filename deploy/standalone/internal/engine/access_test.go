package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

func TestUsersMayDoTheirJobAndNoMore(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	for _, text := range []string{
		"CREATE DATABASE ebbwatch",
		"CREATE TABLE ebbwatch.flows (a UInt32) ENGINE = MergeTree ORDER BY a",
		"CREATE TABLE ebbwatch.findings (a UInt32) ENGINE = MergeTree ORDER BY a",
		"CREATE TABLE ebbwatch.flows_1m (a UInt32) ENGINE = SummingMergeTree ORDER BY a",
		"CREATE MATERIALIZED VIEW ebbwatch.flows_1m_mv TO ebbwatch.flows_1m AS SELECT a FROM ebbwatch.flows",
		"INSERT INTO ebbwatch.flows VALUES (1)",
	} {
		mustQuery(t, cfg, dir, Collector, text)
	}
	const denied, limited = "ACCESS_DENIED", "SETTING_CONSTRAINT_VIOLATION"
	self := port.Loopback(cfg.HTTPPort)
	for _, c := range []struct{ name, user, query, want string }{
		{"the reader reads flows", Reader, "SELECT count() FROM ebbwatch.flows", ""},
		{"the reader reads a rollup", Reader, "SELECT count() FROM ebbwatch.flows_1m", ""},
		{"the reader finds the tables", Reader, "SELECT throwIf(count() = 0) FROM system.tables WHERE database = 'ebbwatch'", ""},
		{"the reader lowers a limit", Reader, "SELECT 1 SETTINGS max_execution_time = 5", ""},
		{"the reader inserts nothing", Reader, "INSERT INTO ebbwatch.flows VALUES (1)", denied},
		{"the reader drops nothing", Reader, "DROP TABLE ebbwatch.flows", denied},
		{"the reader alters nothing", Reader, "ALTER TABLE ebbwatch.flows DELETE WHERE 1", denied},
		{"the reader creates nothing", Reader, "CREATE TABLE ebbwatch.x (a UInt8) ENGINE = Memory", denied},
		{"the reader creates no temporary table", Reader, "CREATE TEMPORARY TABLE x (a UInt8)", denied},
		{"the reader reaches no url", Reader, "SELECT * FROM url('http://" + self + "/ping', LineAsString)", denied},
		{"the reader reads no file", Reader, "SELECT * FROM file('/etc/passwd', LineAsString)", denied},
		{"the reader reaches no other server", Reader, "SELECT * FROM remote('" + self + "', system.one)", denied},
		{"the reader reaches no object store", Reader, "SELECT * FROM s3('http://" + self + "/bucket/a', LineAsString)", denied},
		{"the reader runs no program", Reader, "SELECT * FROM executable('x', 'TSV', 'a String')", denied},
		{"the reader sees no other's query", Reader, "KILL QUERY WHERE 1", denied},
		{"the reader stops nothing", Reader, "SYSTEM STOP LISTEN TCP", denied},
		{"the reader raises no time limit", Reader, "SELECT 1 SETTINGS max_execution_time = 600", limited},
		{"the reader lifts no time limit", Reader, "SELECT 1 SETTINGS max_execution_time = 0", limited},
		{"the reader lifts no memory limit", Reader, "SELECT 1 SETTINGS max_memory_usage = 0", limited},
		{"the reader lifts no row limit", Reader, "SELECT 1 SETTINGS max_result_rows = 0", limited},
		{"the reader lifts no read limit", Reader, "SELECT 1 SETTINGS max_rows_to_read = 0", limited},
		{"the reader leaves its mode not", Reader, "SELECT 1 SETTINGS readonly = 0", "READONLY"},
		{"the reader's result is bounded", Reader, "SELECT number FROM numbers(2000000) FORMAT Null", "TOO_MANY_ROWS"},

		{"the analyzer inserts findings", Analyzer, "INSERT INTO ebbwatch.findings VALUES (1)", ""},
		{"the analyzer inserts no flows", Analyzer, "INSERT INTO ebbwatch.flows VALUES (1)", denied},
		{"the analyzer drops nothing", Analyzer, "DROP TABLE ebbwatch.findings", denied},
		{"the analyzer reads no file", Analyzer, "SELECT * FROM file('/etc/passwd', LineAsString)", denied},

		{"the collector has its database only", Collector, "CREATE DATABASE other", denied},
		{"the collector reads no file", Collector, "SELECT * FROM file('/etc/passwd', LineAsString)", denied},
		{"the collector makes no users", Collector, "CREATE USER x", denied},

		{"the engine's own user stops no listener", "default", "SYSTEM STOP LISTEN TCP", "QUOTA_EXCEEDED"},
		{"the engine's own user reads no flows", "default", "SELECT * FROM ebbwatch.flows", denied},
		{"the operator has a password", operator, "SELECT 1", "AUTHENTICATION_FAILED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := query(t, cfg, dir, c.user, c.query)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The function file(), other than the table function, needs no grant, and in a
// library engine it is not held to a folder either.
func TestNoUserReadsFilesOfTheHost(t *testing.T) {
	needEngine(t)
	if !canConfine() {
		if os.Getenv("CI") == "true" {
			t.Fatal("this kernel has no Landlock of ABI 2 or later")
		}
		t.Skip("this kernel has no Landlock of ABI 2 or later")
	}
	t.Setenv("EBBWATCH_TEST_KEY", "hunter2") // of this process, the parent of the engine
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	for _, user := range []string{Reader, Analyzer, Collector, "default"} {
		for _, file := range []string{"/etc/shadow", dir.SecretPath(SecretPrefix + Collector), "/proc/1/environ", fmt.Sprintf("/proc/%d/environ", os.Getpid())} {
			t.Run(user+" "+file, func(t *testing.T) {
				answer, err := query(t, cfg, dir, user, "SELECT file('"+file+"')")
				if err == nil || !strings.Contains(err.Error(), "CANNOT_OPEN_FILE") && !strings.Contains(err.Error(), "QUOTA_EXCEEDED") {
					t.Errorf("answer of %d bytes, error %v", len(answer), err)
				}
			})
		}
	}
	if answer, err := query(t, cfg, dir, Reader, "SELECT file('/proc/self/environ')"); err != nil || strings.Contains(answer, "hunter2") {
		t.Errorf("the engine has its parent's environment: %v", err)
	}
}
