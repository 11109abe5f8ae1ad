package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/ops"
	"github.com/ebbwatch/ebbwatch/migrations"
)

func TestConfiguration(t *testing.T) {
	for name, test := range map[string]struct{ yaml, fails string }{
		"an empty file means the defaults":                 {"", ""},
		"values are taken":                                 {"ingest:\n  block_rows: 5\nstreams:\n  ack_wait: 90s\n", ""},
		"an unknown key is refused":                        {"ingest:\n  block_row: 5\n", "block_row"},
		"a wrong block is refused":                         {"ingest:\n  block_rows: 1000000\n", "ingest.block_rows"},
		"ages over 90 partitions are refused":              {"ingest:\n  max_age: 2400h\n", "ingest.max_age"},
		"a database that needs quotes is refused":          {"clickhouse:\n  database: 'a`b'\n", "clickhouse.database"},
		"an address without a port is refused":             {"clickhouse:\n  address: host\n", "clickhouse.address"},
		"an unknown compression is refused":                {"clickhouse:\n  compression: best\n", "clickhouse.compression"},
		"what is known of addresses is taken":              {"enrich:\n  mmdb: [country.mmdb, asn.mmdb]\n  networks_file: networks.csv\n  networks:\n    - {prefix: 10.0.0.0/8, name: office, tags: [site=berlin]}\n    - {prefix: 10.0.0.7, tags: [role=db]}\n  agents: [{agent: web-1, tags: [role=web]}]\n", ""},
		"a network with bits beyond its length is refused": {"enrich:\n  networks:\n    - {prefix: 10.0.0.0/8, name: office}\n    - {prefix: 10.0.0.7/8, name: office}\n", "collector.yaml:4: enrich.networks[1].prefix: 10.0.0.7/8 has bits beyond its length: write 10.0.0.0/8"},
		"a network that stands twice is refused":           {"enrich:\n  networks:\n    - {prefix: 10.0.0.0/8, name: office}\n    - prefix: 10.0.0.0/8\n      name: lab\n", "collector.yaml:4: enrich.networks[1].prefix: 10.0.0.0/8 stands here twice"},
		"a network that says nothing is refused":           {"enrich:\n  networks: [{prefix: 10.0.0.0/8}]\n", "collector.yaml:2: enrich.networks[0].name: is missing"},
		"a tag with a space is refused":                    {"enrich:\n  agents:\n    - agent: web-1\n      tags: [role=web, 'a b']\n", "collector.yaml:4: enrich.agents[0].tags: \"a b\": a tag is printable"},
		"an unknown key of a network is refused":           {"enrich:\n  networks: [{cidr: 10.0.0.0/8, name: office}]\n", "collector.yaml:2: \"enrich.networks[0].cidr\": no such key"},
		"a wrong retry is refused":                         {"insert:\n  retry_min: 1h\n", "insert.retry_min"},
		"a retention below the age is refused":             {"store:\n  retention_days:\n    flows: 6\n", "store.retention_days.flows"},
		"an age above the retention is refused":            {"ingest:\n  max_age: 192h\nstore:\n  retention_days:\n    flows: 8\n", "store.retention_days.coverage"},
		"a retention that is not ours is free":             {"ingest:\n  max_age: 192h\nstore:\n  retention_days: {flows: 0, coverage: 0, runs: 0}\n", ""},
		"a short memory of runs is refused":                {"store:\n  retention_days: {runs: 6}\n", "store.retention_days.runs"},
		"fewer hours than minutes are refused":             {"store:\n  retention_days: {flows_1m: 91}\n", "store.retention_days.flows_1h"},
		"an endless retention is refused":                  {"store:\n  retention_days: {reports: 21901}\n", "store.retention_days.reports"},
		"a retention of sixty years is free":               {"store:\n  retention_days: {reports: 21900}\n", ""},
		"an unknown table is refused":                      {"store:\n  retention_days: {flow: 9}\n", "store.retention_days.flow"},
		"no index is a choice":                             {"store:\n  indices: []\n", ""},
		"an index without a type is refused":               {"store:\n  indices: [{table: flows, name: a, expression: src_ip, granularity: 1}]\n", "store.indices[0]"},
		"an index without granules is refused":             {"store:\n  indices: [{table: flows, name: a, expression: src_ip, type: minmax}]\n", "store.indices[0]"},
		"statements in a type are refused":                 {"store:\n  indices: [{table: flows, name: a, expression: src_ip, type: 'minmax, DROP COLUMN agent', granularity: 1}]\n", "store.indices[0]"},
		"one name twice is refused":                        {"store:\n  indices: [{table: flows, name: a, expression: src_ip, type: minmax, granularity: 1}, {table: flows, name: a, expression: dst_ip, type: minmax, granularity: 1}]\n", "store.indices[1]"},
		"a cluster is taken":                               {"streams: {shards: 4}\nclickhouse:\n  cluster: {name: fleet, shards: ['a:9000', 'b:9000']}\n", ""},
		"servers of no cluster are refused":                {"clickhouse:\n  cluster:\n    shards: ['a:9000']\n", "clickhouse.cluster.name"},
		"a server without a port is refused":               {"streams: {shards: 2}\nclickhouse:\n  cluster: {name: fleet, shards: ['a:9000', b]}\n", "clickhouse.cluster.shards[1]"},
		"shards that do not divide are refused":            {"streams:\n  shards: 3\nclickhouse:\n  cluster: {name: fleet, shards: ['a:9000', 'b:9000']}\n", "streams.shards"},
		"one database for both is refused":                 {"clickhouse:\n  cluster: {name: fleet, local_database: ebbwatch}\n", "clickhouse.cluster.local_database"},
		"a cluster that needs quotes is refused":           {"clickhouse:\n  cluster: {name: 'a b'}\n", "clickhouse.cluster.name"},
		"one path for all tables is refused":               {"clickhouse:\n  cluster: {name: fleet, keeper_path: '/x/{shard}'}\n", "clickhouse.cluster.keeper_path"},
		"a path that ends its string is refused":           {"clickhouse:\n  cluster: {name: fleet, keeper_path: \"/x/{shard}/{table}'\"}\n", "clickhouse.cluster.keeper_path"},
		"replicas without a name are refused":              {"clickhouse:\n  cluster: {name: fleet, replica: ''}\n", "clickhouse.cluster.replica"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "collector.yaml")
			if err := os.WriteFile(file, []byte(test.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			err := config.Load(&cfg, file, nil)
			if test.fails == "" && err != nil {
				t.Error(err)
			}
			if test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails) || !strings.Contains(err.Error(), file)) {
				t.Errorf("error is %v, want file and %s", err, test.fails)
			}
		})
	}
}

func TestADumpedConfigurationLoadsAndHidesThePassword(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ClickHouse.Password = "hunter2"
	var dump bytes.Buffer
	if err := config.Dump(&dump, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(dump.String(), "hunter2") {
		t.Errorf("the dump shows the password:\n%s", dump.String())
	}
	file := filepath.Join(t.TempDir(), "collector.yaml")
	text := strings.ReplaceAll(dump.String(), "<redacted>", "hunter2")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	again := DefaultConfig()
	if err := config.Load(&again, file, nil); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(again, cfg) {
		t.Errorf("the dump loads as %+v, want %+v", again, cfg)
	}
}

func (b *bed) environ() {
	b.t.Setenv("EBBWATCH_LISTEN", "")
	b.t.Setenv("EBBWATCH_NATS_URL", b.nats.URL)
	b.t.Setenv("EBBWATCH_CLICKHOUSE_ADDRESS", b.cfg.ClickHouse.Address)
	b.t.Setenv("EBBWATCH_CLICKHOUSE_DATABASE", b.db)
	b.t.Setenv("EBBWATCH_CLICKHOUSE_USER", chtest.Collector)
	b.t.Setenv("EBBWATCH_CLICKHOUSE_PASSWORD", b.ch.CollectorPassword)
}

// command runs `collector args…` and returns what it prints.
func (b *bed) command(args ...string) (string, error) {
	b.t.Helper()
	b.environ()
	root := Command()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(args)
	err := root.ExecuteContext(b.t.Context())
	return out.String(), err
}

func TestTools(t *testing.T) {
	b := newBed(t, chtest.Start(t))
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.command("migrate")
	if err != nil || !strings.Contains(out, "applied 0001_flows.sql") || !strings.Contains(out, fmt.Sprintf("is up to date: %d applied now, %[1]d in all", len(all))) {
		t.Errorf("migrate prints %q: %v", out, err)
	}
	out, err = b.command("migrate")
	if err != nil || !strings.Contains(out, fmt.Sprintf("0 applied now, %d in all", len(all))) {
		t.Errorf("the second migrate prints %q: %v", out, err)
	}
	b.ch.Query(t, "ALTER TABLE "+b.db+".schema_migrations UPDATE checksum = 'other' WHERE version = 2 SETTINGS mutations_sync = 1")
	if _, err := b.command("run"); err == nil || !strings.Contains(err.Error(), "0002_findings.sql") {
		t.Errorf("over a changed migration the collector starts: %v", err)
	}
}

func TestHealth(t *testing.T) {
	b := newBed(t, chtest.Start(t))
	c := b.cable(b.ch.Addr)
	b.cfg.ClickHouse.Address = c.addr()
	a, err := New(b.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(b.nats.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	handler := (&ops.Server{Registry: a.registry, Checks: a.checks(conn), Log: a.log}).Handler()
	health := func() (int, map[string]string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		answer := make(map[string]string)
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		return w.Code, answer
	}
	if code, answer := health(); code != http.StatusServiceUnavailable || !strings.Contains(answer["ingest"], "not migrated") {
		t.Errorf("before the start health is %d %v", code, answer)
	}
	a.migrated.Store(true)
	if code, answer := health(); code != http.StatusOK {
		t.Errorf("health is %d %v", code, answer)
	}
	c.Cut()
	if code, answer := health(); code != http.StatusServiceUnavailable || answer["clickhouse"] == "ok" || answer["nats"] != "ok" {
		t.Errorf("without ClickHouse health is %d %v", code, answer)
	}
	b.nats.Stop()
	eventually(t, 5*time.Second, "health notices that NATS is gone", func() error {
		if code, answer := health(); code != http.StatusServiceUnavailable || answer["nats"] == "ok" {
			return fmt.Errorf("health is %d %v", code, answer)
		}
		return nil
	})
}

func TestMetricsAreWellFormedAndSayWhatToDo(t *testing.T) {
	a, err := New(DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "ebbwatch_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	page, err := os.ReadFile("../../docs/collector.md")
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "ebbwatch_") {
			ours++
			if short := strings.TrimPrefix(f.GetName(), "ebbwatch_collector_"); !strings.Contains(string(page), "`"+short+"`") && !strings.Contains(string(page), "`"+short+"{") {
				t.Errorf("docs/collector.md does not tell of %s", f.GetName())
			}
			if len(f.GetHelp()) < 60 {
				t.Errorf("%s: the help says too little: %q", f.GetName(), f.GetHelp())
			}
		}
	}
	if ours < 12 {
		t.Errorf("only %d metrics of ours", ours)
	}
}
