package engine

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

// Answers with which ClickHouse refuses.
const (
	denied   = "ACCESS_DENIED"
	readonly = "READONLY"
	limited  = "SETTING_CONSTRAINT_VIOLATION"
)

// attempt is a query of one user, and the refusal that it must get, or "".
type attempt struct{ user, query, want string }

func try(t *testing.T, cfg Config, dir *datadir.Dir, attempts ...attempt) {
	t.Helper()
	for _, a := range attempts {
		answer, err := query(t, cfg, dir, a.user, a.query)
		switch {
		case a.want == "" && err != nil:
			t.Errorf("the %s may not: %s: %v", a.user, a.query, err)
		case a.want != "" && err == nil:
			t.Errorf("the %s may: %s: %.200s", a.user, a.query, answer)
		case a.want != "" && !strings.Contains(err.Error(), "("+a.want+")"):
			t.Errorf("the %s: %s: %v, want %s", a.user, a.query, err, a.want)
		}
	}
}

// startWithTables starts an engine with a few tables of the real names.
func startWithTables(t *testing.T) (Config, *datadir.Dir) {
	t.Helper()
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	cfg.MaxMemoryMB = 512
	_, stop := start(t, cfg, dir)
	t.Cleanup(stop)
	mustQuery(t, cfg, dir, Collector, "CREATE DATABASE ebbwatch")
	for _, table := range []string{"flows", "coverage", "features", "sources", "refused_batches", "findings", "incidents", "reports", "deliveries", "schema_migrations", "runs", "flows_1m"} {
		mustQuery(t, cfg, dir, Collector, "CREATE TABLE ebbwatch."+table+" (a UInt32) ENGINE = MergeTree ORDER BY a")
	}
	mustQuery(t, cfg, dir, Collector, "CREATE MATERIALIZED VIEW ebbwatch.flows_1m_mv TO ebbwatch.flows_1m AS SELECT a FROM ebbwatch.flows")
	mustQuery(t, cfg, dir, Collector, "CREATE VIEW ebbwatch.latest AS SELECT max(a) AS a FROM ebbwatch.flows")
	return cfg, dir
}

func TestServicesMayDoTheirJobAndNoMore(t *testing.T) {
	cfg, dir := startWithTables(t)
	outside := outsideQueries(port.Loopback(cfg.HTTPPort))
	for _, table := range []string{"flows", "coverage", "features", "sources", "refused_batches"} {
		try(t, cfg, dir,
			attempt{Writer, "INSERT INTO ebbwatch." + table + " SETTINGS async_insert = 0, insert_deduplicate = 1 VALUES (1)", ""},
			attempt{Analyzer, "INSERT INTO ebbwatch." + table + " VALUES (2)", denied})
	}
	for _, table := range []string{"findings", "incidents", "reports", "deliveries"} {
		try(t, cfg, dir,
			attempt{Writer, "INSERT INTO ebbwatch." + table + " VALUES (1)", denied},
			attempt{Analyzer, "INSERT INTO ebbwatch." + table + " VALUES (2)", ""})
	}
	try(t, cfg, dir,
		attempt{Analyzer, "SELECT throwIf(count() != 1) FROM ebbwatch.flows_1m", ""},
		attempt{Writer, "SELECT count() FROM ebbwatch.schema_migrations", ""},
		attempt{Writer, "SELECT throwIf(count() != 1) FROM system.tables WHERE database = 'ebbwatch' AND name = 'schema_migrations'", ""},
		attempt{Writer, "SELECT throwIf(count() != 1) FROM system.databases WHERE name = 'ebbwatch'", ""},
		attempt{Writer, "SELECT count() FROM ebbwatch.runs", ""},
		attempt{Writer, "SELECT count() FROM ebbwatch.reports", denied},
		attempt{Writer, "INSERT INTO ebbwatch.schema_migrations VALUES (1)", denied},
		attempt{Writer, "INSERT INTO ebbwatch.flows_1m VALUES (1)", denied},
		attempt{Collector, "CREATE DATABASE other", denied},
		attempt{Collector, "CREATE USER x", denied},
		attempt{Collector, "CREATE TABLE ebbwatch.out (a String) ENGINE = URL('http://" + port.Loopback(cfg.HTTPPort) + "/ping', LineAsString)", denied},
		attempt{"default", "SYSTEM STOP LISTEN TCP", "USER_SESSION_LIMIT_EXCEEDED"},
		attempt{"default", "SELECT 1", "USER_SESSION_LIMIT_EXCEEDED"},
		attempt{operator, "SELECT 1", "AUTHENTICATION_FAILED"},
	)
	for _, user := range []string{Writer, Analyzer} {
		for _, change := range changes {
			try(t, cfg, dir, attempt{user, change, denied})
		}
	}
	for _, user := range []string{Writer, Analyzer, Collector} {
		for _, q := range outside {
			try(t, cfg, dir, attempt{user, q, denied})
		}
	}
}

// changes are statements of an owner.
var changes = []string{
	"ALTER TABLE ebbwatch.flows DELETE WHERE 1",
	"ALTER TABLE ebbwatch.flows UPDATE a = 2 WHERE 1",
	"ALTER TABLE ebbwatch.flows ADD COLUMN b UInt8",
	"ALTER TABLE ebbwatch.flows MODIFY TTL now() + INTERVAL 1 SECOND",
	"ALTER TABLE ebbwatch.flows DROP PARTITION tuple()",
	"ALTER TABLE ebbwatch.flows MODIFY COMMENT 'x'",
	"DELETE FROM ebbwatch.flows WHERE 1",
	"DROP TABLE ebbwatch.flows",
	"DROP DATABASE ebbwatch",
	"TRUNCATE TABLE ebbwatch.flows",
	"OPTIMIZE TABLE ebbwatch.flows FINAL",
	"RENAME TABLE ebbwatch.flows TO ebbwatch.x",
	"EXCHANGE TABLES ebbwatch.flows AND ebbwatch.coverage",
	"DETACH TABLE ebbwatch.flows",
	"CREATE TABLE ebbwatch.x (a UInt8) ENGINE = MergeTree ORDER BY a",
	"CREATE TABLE ebbwatch.x ENGINE = MergeTree ORDER BY a AS SELECT a FROM ebbwatch.flows",
	"CREATE VIEW ebbwatch.x AS SELECT 1",
	"CREATE OR REPLACE VIEW ebbwatch.latest AS SELECT 1",
	"CREATE MATERIALIZED VIEW ebbwatch.x TO ebbwatch.coverage AS SELECT a FROM ebbwatch.flows",
	"CREATE DICTIONARY ebbwatch.x (a UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 'flows')) LAYOUT(FLAT()) LIFETIME(1)",
	"CREATE DATABASE other",
	"CREATE FUNCTION x AS (a) -> a",
	"CREATE NAMED COLLECTION x AS a = 1",
	"CREATE USER x",
	"CREATE ROLE x",
	"GRANT SELECT ON *.* TO reader",
	"ALTER USER reader SETTINGS readonly = 0",
	"SYSTEM STOP MERGES ebbwatch.flows",
	"SYSTEM STOP LISTEN TCP",
	"SYSTEM SHUTDOWN",
	"SYSTEM DROP MARK CACHE",
	"KILL QUERY WHERE 1",
	"BACKUP TABLE ebbwatch.flows TO File('x')",
}

// outsideQueries leave the database; self is an address that answers HTTP.
func outsideQueries(self string) []string {
	return []string{
		"SELECT * FROM url('http://" + self + "/ping', LineAsString)",
		"DESCRIBE TABLE url('http://" + self + "/ping', CSV)",
		"INSERT INTO FUNCTION url('http://" + self + "/', CSV, 'a UInt32') SELECT 1",
		"SELECT * FROM file('/etc/passwd', LineAsString)",
		"DESCRIBE TABLE file('/etc/passwd', CSV)",
		"INSERT INTO FUNCTION file('x.csv', CSV, 'a UInt32') SELECT 1",
		"SELECT * FROM s3('http://" + self + "/bucket/a', LineAsString)",
		"SELECT * FROM gcs('http://" + self + "/bucket/a', LineAsString)",
		"SELECT * FROM remote('" + self + "', system.one)",
		"SELECT * FROM remoteSecure('" + self + "', system.one)",
		"SELECT * FROM remote('" + self + "', url('http://" + self + "/ping', LineAsString, 'a String'))",
		"SELECT * FROM mysql('" + self + "', 'd', 't', 'u', 'p')",
		"SELECT * FROM postgresql('" + self + "', 'd', 't', 'u', 'p')",
		"SELECT * FROM mongodb('" + self + "', 'd', 'c', 'u', 'p', 'a UInt32')",
		"SELECT * FROM redis('" + self + "', 'a', 'a UInt32')",
		"SELECT * FROM sqlite('x.db', 't')",
		"INSERT INTO FUNCTION remote('" + self + "', ebbwatch.flows) SELECT 1",
	}
}

func TestTheReaderOnlyReads(t *testing.T) {
	cfg, dir := startWithTables(t)
	self := port.Loopback(cfg.HTTPPort)
	mustQuery(t, cfg, dir, Collector, "INSERT INTO ebbwatch.flows VALUES (7)")
	for _, q := range []string{
		"SELECT throwIf(a != 7) FROM ebbwatch.flows",
		"SELECT throwIf(a != 7) FROM ebbwatch.flows_1m",
		"SELECT throwIf(a != 7) FROM ebbwatch.latest",
		"SELECT throwIf(count() < 10) FROM system.tables WHERE database = 'ebbwatch'",
		"DESCRIBE TABLE ebbwatch.flows",
		"SHOW TABLES FROM ebbwatch",
		"SHOW CREATE TABLE ebbwatch.latest",
		"EXPLAIN indexes = 1 SELECT * FROM ebbwatch.flows",
		"SELECT sum(number) FROM numbers(10)",
		"SELECT * FROM ebbwatch.flows FORMAT Parquet",
		"SELECT * FROM ebbwatch.flows FORMAT ArrowStream",
		"SELECT 1 SETTINGS max_execution_time = 5, max_memory_usage = 1000000000000 - 999900000000, max_threads = 1, max_block_size = 100, output_format_json_quote_64bit_integers = 0",
	} {
		q = strings.ReplaceAll(q, "1000000000000 - 999900000000", "100000000")
		try(t, cfg, dir, attempt{Reader, q, ""})
	}
	for _, q := range append(changes, "INSERT INTO ebbwatch.flows VALUES (1)", "INSERT INTO ebbwatch.findings VALUES (1)", "CREATE TEMPORARY TABLE x (a UInt8)") {
		try(t, cfg, dir, attempt{Reader, q, denied})
	}
	for _, q := range append(outsideQueries(self),
		"SELECT * FROM executable('x', TSV, 'a String')",
		"SELECT * FROM dictionary('x')",
		"SHOW CREATE USER collector",
		"SHOW ACCESS",
		"SHOW PROCESSLIST",
		"SELECT * FROM system.users",
		"SELECT * FROM system.processes",
		"SELECT * FROM system.server_settings",
		"SELECT * FROM system.named_collections",
		"SELECT * FROM system.disks",
		"SELECT * FROM system.grants",
		"SELECT * FROM system.stack_trace",
		"SELECT addressToLine(1)",
	) {
		try(t, cfg, dir, attempt{Reader, q, denied})
	}
	try(t, cfg, dir,
		attempt{Reader, "SET ROLE ebbwatch_owner", "SET_NON_GRANTED_ROLE"},
		attempt{Reader, "SELECT 1 INTO OUTFILE 'x'", "INTO_OUTFILE_NOT_ALLOWED"},
		attempt{Reader, "SELECT * FROM cluster('default', system.one)", "CLUSTER_DOESNT_EXIST"},
		attempt{Reader, "SELECT * FROM merge('system', '^users$')", "CANNOT_EXTRACT_TABLE_STRUCTURE"}, // it finds what the user may read
	)
}

func TestTheReaderKeepsWithinItsLimits(t *testing.T) {
	cfg, dir := startWithTables(t)
	for setting, want := range map[string]string{
		"max_execution_time = 600": limited, "max_execution_time = 0": limited,
		"max_memory_usage = 0": limited, "max_memory_usage = 1000000000000": limited,
		"max_result_rows = 0": limited, "max_result_bytes = 0": limited, "max_rows_to_read = 0": limited, "max_threads = 1000": limited,
		"max_memory_usage_for_user = 0": readonly, "max_concurrent_queries_for_user = 0": readonly, "max_temporary_data_on_disk_size_for_user = 0": readonly,
		"readonly = 0": readonly, "readonly = 2": readonly, "allow_ddl = 1": "",
		// Ways around the limits.
		"max_untracked_memory = 1000000000000": readonly, "max_bytes_before_external_group_by = 1": readonly, "log_queries = 0": readonly,
		"output_format_schema = 'x.proto'": readonly, "add_http_cors_header = 1": readonly,
		"max_query_size = 1000000000": readonly, "max_parser_depth = 1000000": readonly, "priority = 1": readonly,
	} {
		try(t, cfg, dir, attempt{Reader, "SELECT 1 SETTINGS " + setting, want})
	}
	// now() in the arguments of a view is UTC whatever the zone of the server is.
	try(t, cfg, dir, attempt{Reader, "SELECT throwIf(getSetting('session_timezone') != 'UTC')", ""})
	const busy = "SELECT count() FROM numbers(1900000000) WHERE cityHash64(sipHash64(number, 1), 2) = 3"
	try(t, cfg, dir,
		attempt{Reader, "SELECT number FROM numbers(2000000) FORMAT Null", "TOO_MANY_ROWS_OR_BYTES"},
		attempt{Reader, "SELECT repeat(toString(number), 10000) FROM numbers(60000) SETTINGS max_block_size = 1000 FORMAT Null", "TOO_MANY_ROWS_OR_BYTES"},
		attempt{Reader, "SELECT count() FROM numbers(3000000000) WHERE NOT ignore(number)", "TOO_MANY_ROWS"},
		attempt{Reader, "SELECT length(groupArray(toString(number))) FROM numbers(100000000)", "MEMORY_LIMIT_EXCEEDED"},
		attempt{Reader, busy + " SETTINGS max_execution_time = 1", "TIMEOUT_EXCEEDED"},
	)
	// Another profile is refused, or keeps the reader within its own limits.
	try(t, cfg, dir, attempt{Reader, "SELECT 1 SETTINGS profile = 'services'", readonly})
	for _, profile := range []string{"", " SETTINGS profile = 'default'"} {
		got := mustQuery(t, cfg, dir, Reader, "SELECT getSetting('max_execution_time'), getSetting('readonly'), getSetting('max_result_rows'), getSetting('max_memory_usage') <= 268435456"+profile)
		if got != "60\t1\t1000000\t1" {
			t.Errorf("the reader's limits%s are %s", profile, got)
		}
	}
}

func TestTheReaderLeavesRoomForOthers(t *testing.T) {
	cfg, dir := startWithTables(t)
	var refused atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := query(t, cfg, dir, Reader, "SELECT sleep(2)"); err != nil && strings.Contains(err.Error(), "TOO_MANY_SIMULTANEOUS_QUERIES") {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n < 1 || n > 2 {
		t.Errorf("of 12 queries at once %d were refused, want 1 or 2", n)
	}
	for n := 0; ; n++ {
		_, err := query(t, cfg, dir, Reader, "SELECT count() FROM ebbwatch.flows") // SELECT 1 does not count
		if err != nil && strings.Contains(err.Error(), "QUOTA_EXCEEDED") {
			break
		}
		if err != nil || n > 2000 { // the loop may cross from one minute into the next
			t.Fatalf("%d queries: %v, want a quota of 600 a minute", n, err)
		}
	}
	try(t, cfg, dir, attempt{Analyzer, "SELECT 1", ""})
}

// The statements for a server cannot be run by the library, which has no place to
// keep roles, but it has the server's parser. What they grant is what the XML
// grants, which the tests above try.
func TestTheSQLForAServerParses(t *testing.T) {
	needEngine(t)
	cfg, dir := freeConfig(t), openDir(t)
	_, stop := start(t, cfg, dir)
	defer stop()
	data, err := os.ReadFile("../../../clickhouse/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	statements := 0
	for statement := range strings.SplitSeq(string(data), ";\n\n") {
		if !strings.Contains(statement, "ebbwatch_") {
			t.Errorf("no role in: %s", statement)
		}
		if _, err := query(t, cfg, dir, Analyzer, "SELECT formatQuery($x$"+statement+"$x$)"); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
		statements++
	}
	if statements < 25 {
		t.Errorf("roles.sql has %d statements: the test looks at nothing", statements)
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
	for _, user := range []string{Reader, Writer, Analyzer, Collector, "default"} {
		for _, file := range []string{"/etc/shadow", dir.SecretPath(SecretPrefix + Collector), "/proc/1/environ", fmt.Sprintf("/proc/%d/environ", os.Getpid())} {
			t.Run(user+" "+file, func(t *testing.T) {
				answer, err := query(t, cfg, dir, user, "SELECT file('"+file+"')")
				if err == nil || !strings.Contains(err.Error(), "CANNOT_OPEN_FILE") && !strings.Contains(err.Error(), "USER_SESSION_LIMIT_EXCEEDED") {
					t.Errorf("answer of %d bytes, error %v", len(answer), err)
				}
			})
		}
	}
	if answer, err := query(t, cfg, dir, Reader, "SELECT file('/proc/self/environ')"); err != nil || strings.Contains(answer, "hunter2") {
		t.Errorf("the engine has its parent's environment: %v", err)
	}
}
