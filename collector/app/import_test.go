package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer/journal"
	"github.com/ebbwatch/ebbwatch/collector/internal/schema"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/ops"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// store is a migrated database, and the `import` command on it.
type store struct {
	*testing.T
	ch  *chtest.Server
	cfg Config
}

// noLock is the lock of the only one who migrates.
type noLock struct{}

func (noLock) Lock(ctx context.Context) (context.Context, func(), error) { return ctx, func() {}, nil }

func newStore(t *testing.T, ch *chtest.Server) *store {
	s := &store{T: t, ch: ch, cfg: DefaultConfig()}
	c := &s.cfg.ClickHouse
	c.Address, c.Database, c.User, c.Password = ch.Addr, ch.NewDatabase(t), chtest.Collector, config.Secret(ch.CollectorPassword)
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	m := schema.Migrator{ClickHouse: *c, Migrations: all, Lock: noLock{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), By: "test"}
	if _, err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs `import ARGS --json`.
func (s *store) run(args ...string) (importer.Summary, error) {
	s.Helper()
	root := ImportCommand(func() Config { return s.cfg }, func(c Config) (Config, error) { return c, nil }, nil)
	var out, progress bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&progress)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(append(args, "--json"))
	err := root.ExecuteContext(s.Context())
	var sum importer.Summary
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
			s.Fatalf("%v: %s", err, out.String())
		}
	}
	return sum, err
}

func (s *store) must(args ...string) importer.Summary {
	s.Helper()
	sum, err := s.run(args...)
	if err != nil {
		s.Fatal(err)
	}
	return sum
}

func (s *store) query(query string) string {
	s.Helper()
	return s.ch.Query(s, strings.ReplaceAll(query, "DB.", s.cfg.ClickHouse.Database+"."))
}

func (s *store) want(query, want string) {
	s.Helper()
	if got := s.query(query); got != want {
		s.Errorf("%s gives %q, want %q", query, got, want)
	}
}

const rollupIsRaw = "SELECT (SELECT (sum(src_packets), sum(src_bytes), sum(dst_packets), sum(dst_bytes), count()) FROM DB.flows WHERE src_packets + dst_packets > 0) = (SELECT (sum(src_packets), sum(src_bytes), sum(dst_packets), sum(dst_bytes), toUInt64(sum(records))) FROM DB.flows_1m)"

func TestImport(t *testing.T) {
	ch := chtest.Start(t)
	for name, test := range map[string]func(*store){
		"logs of Zeek become rows, once":                                      importZeek,
		"an export comes back as the same rows":                               importExport,
		"an import that is broken off goes on":                                importBrokenOff,
		"an import that is killed six times stores what one does that is not": importKilled,
		"every format of an export is read back as the same rows":             exported,
		"a file that expands to hundreds of megabytes takes few":              importBomb,
		"a block that nobody remembers is asked for":                          importForgotten,
		"a block of many names is stored":                                     importManyNames,
		"rows without packets are told":                                       importWithoutPackets,
		"the same content twice is stored once":                               importSameContent,
		"rejected lines go into no file that is imported":                     importRejects,
		"an import is enriched":                                               importEnriched,
		"old records are refused, moved, left out or kept":                    importOld,
		"a file that has changed is refused":                                  importChanged,
		"bad lines are counted, shown and kept":                               importBadLines,
		"files of nfcapd become rows, once":                                   importNfcapd,
		"what cannot be imported says so before anything is":                  importRefused,
		"the sets of labelled Zeek logs become rows, all but none":            importSharedData,
	} {
		t.Run(name, func(t *testing.T) { test(newStore(t, ch)) })
	}
}

const zeekDay = "../internal/importer/zeek/testdata/day"

func importZeek(s *store) {
	sum := s.must("zeek", zeekDay, "--shift", "now", "--agent", "sensor-1")
	if sum.Rows != 10 || sum.Records != 10 || len(sum.Rejected) != 6 || sum.Hints.Matched != 4 {
		s.Errorf("summary is %+v", sum)
	}
	again := s.must("zeek", zeekDay, "--shift", "now", "--agent", "sensor-1")
	if again.Rows != 0 || again.Known != 1 || again.Files[0].State != "known" {
		s.Errorf("the second time: %+v", again)
	}
	s.want("SELECT count(), uniqExact(agent), max(agent), countIf(start > now() - 60), sum(src_bytes) FROM DB.flows", "10\t1\tsensor-1\t10\t5712")
	s.want("SELECT server_name, app, dns_type, dns_rcode, dns_answers, app_latency_us FROM DB.flows WHERE dst_port = 53", `www.example\\233\\032x`+"\tdns\tHTTPS\tNXDOMAIN\t2\t20500")
	s.want("SELECT src, conn_state, initiator, src_flags, http_status FROM DB.flows WHERE dst_port = 80", "2001:db8::5\tRSTO\tsyn\t22\t404")
	s.want(rollupIsRaw, "1")
	s.want("SELECT countIf(done), sum(rows) FROM DB.imports FINAL", "1\t10")
	if other := s.must("zeek", zeekDay, "--shift", "now", "--agent", "sensor-2"); other.Rows != 10 {
		s.Errorf("under another name: %+v", other)
	}
	if forced := s.must("zeek", zeekDay, "--shift", "now", "--agent", "sensor-1", "--again"); forced.Rows != 10 {
		s.Errorf("on demand: %+v", forced)
	}
	s.want("SELECT count() FROM DB.flows", "30")
}

// lines writes a CSV of n records of the last n milliseconds, some of which name a server.
func (s *store) lines(n int) string {
	var b strings.Builder
	b.WriteString("start,duration_ms,src_ip,dst_ip,src_port,dst_port,proto,src_packets,src_bytes,dst_packets,dst_bytes,conn_state,server_name\n")
	from := time.Now().UTC().Add(-time.Hour)
	for i := range n {
		fmt.Fprintf(&b, "%s,%d,10.1.%d.%d,192.0.2.%d,%d,443,tcp,%d,%d,%d,%d,SF,host-%d.example\n", from.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano),
			i%1000, i/250%250, i%250, i%200, 1024+i%60000, i%7+1, i%7*100+60, i%3, i%3*900, i%50)
	}
	path := filepath.Join(s.TempDir(), "flows.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func importExport(s *store) {
	s.must("zeek", zeekDay, "--shift", "now", "--agent", "a")
	export := "SELECT * FROM DB.flows WHERE agent = 'a' ORDER BY ALL"
	for command, format := range map[string]string{"csv": "CSVWithNames", "json": "JSONEachRow"} {
		path := filepath.Join(s.TempDir(), "export."+command)
		if err := os.WriteFile(path, []byte(s.query(export+" FORMAT "+format)+"\n"), 0o600); err != nil {
			s.Fatal(err)
		}
		if sum := s.must(command, path, "--agent", command); sum.Rows != 10 || len(sum.Rejected) > 0 {
			s.Errorf("%s: %+v", command, sum)
		}
		s.want("SELECT count() FROM (SELECT * EXCEPT agent FROM DB.flows WHERE agent = 'a' EXCEPT SELECT * EXCEPT agent FROM DB.flows WHERE agent = '"+command+"')", "0")
	}
	s.want(rollupIsRaw, "1")
}

// importer returns what the command makes, with blocks of 1000 records.
func (s *store) importer(path string) (*importer.Importer, *sink.Writer) {
	src, err := formats[1].open(s.Context(), []string{path})
	if err != nil {
		s.Fatal(err)
	}
	j, err := journal.Open(s.Context(), s.cfg.ClickHouse)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { j.Close() })
	w := sink.NewWriter(s.cfg.Insert, s.cfg.ClickHouse, slog.New(slog.NewTextHandler(s.Output(), nil)), ops.NewRegistry())
	s.Cleanup(w.Close)
	o := importer.Options{Format: "csv", Agent: "import", Old: importer.OldRefuse, Patience: time.Minute}
	return &importer.Importer{Options: o, Source: src, Store: w, Journal: j, BlockRows: 1000, Now: time.Now}, w
}

// breaking is a store that fails at a block: before, or after it was stored.
type breaking struct {
	importer.Store
	at, after int
}

func (b *breaking) WriteWithin(ctx context.Context, block *sink.Block, token string, patience time.Duration) error {
	b.at--
	if b.at == 0 && b.after == 0 {
		return context.DeadlineExceeded
	}
	err := b.Store.WriteWithin(ctx, block, token, patience)
	if b.at == 0 && err == nil {
		return context.DeadlineExceeded
	}
	return err
}

func importBrokenOff(s *store) {
	path := s.lines(9_500)
	for round := 1; round <= 10; round++ { // each breaks off at its second block; each other one after it was stored
		m, w := s.importer(path)
		m.Store = &breaking{Store: w, at: 2, after: round % 2}
		sum, err := m.Run(s.Context())
		if err == nil && sum.Files[0].State != "continued" {
			s.Errorf("the last round: %+v", sum)
		}
		if err == nil {
			break
		}
		if round == 10 {
			s.Fatalf("not at its end after ten rounds: %v", err)
		}
		s.want(rollupIsRaw, "1")
	}
	s.want("SELECT count(), uniqExact(src_ip, src_port, dst_ip, start), sum(src_packets) FROM DB.flows", "9500\t9500\t"+strconv.Itoa(packets(9500)))
	s.want(rollupIsRaw, "1")
	s.want("SELECT blocks, records, rows, done FROM DB.imports FINAL", "10\t9500\t9500\ttrue")
}

func packets(n int) (sum int) {
	for i := range n {
		sum += i%7 + 1
	}
	return sum
}

func importForgotten(s *store) {
	path := s.lines(2500)
	m, w := s.importer(path)
	m.Store = &breaking{Store: w, at: 2, after: 1}
	if _, err := m.Run(s.Context()); err == nil {
		s.Fatal("did not break off")
	}
	s.query("INSERT INTO DB.imports SELECT * REPLACE (last_insert - 6000 AS last_insert) FROM DB.imports FINAL")
	m, _ = s.importer(path)
	if _, err := m.Run(s.Context()); err == nil || !strings.Contains(err.Error(), "--broken-block") {
		s.Errorf("error is %v", err)
	}
	m, _ = s.importer(path)
	m.BrokenBlock = "stored"
	if _, err := m.Run(s.Context()); err != nil {
		s.Error(err)
	}
	s.want("SELECT count() FROM DB.flows", "2500")
}

func importOld(s *store) {
	from := time.Now().UTC().Add(-8 * 24 * time.Hour)
	text := "start,src_ip,dst_ip,src_packets\n" + from.Format(time.RFC3339) + ",10.0.0.1,10.0.0.2,1\n" + from.Add(48*time.Hour).Format(time.RFC3339) + ",10.0.0.1,10.0.0.2,1\n"
	path := filepath.Join(s.TempDir(), "old.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	if _, err := s.run("csv", path); err == nil || !strings.Contains(err.Error(), "--shift now") {
		s.Errorf("error is %v", err)
	}
	s.want("SELECT count() FROM DB.flows", "0")
	if sum := s.must("csv", path, "--old", "skip", "--agent", "skip"); sum.Rows != 1 || sum.Rejected["older than what is kept"] != 1 {
		s.Errorf("skip: %+v", sum)
	}
	if _, err := s.run("csv", path, "--old", "keep", "--agent", "keep"); err == nil || !strings.Contains(err.Error(), "retention_days: {flows: 10000") {
		s.Errorf("rows that would vanish are kept: %v", err)
	}
	s.want("SELECT count() FROM DB.imports WHERE agent = 'keep'", "0")
	s.query("ALTER TABLE DB.flows MODIFY TTL toDateTime(start) + toIntervalDay(10000)") // as the collector does by its configuration
	if sum := s.must("csv", path, "--old", "keep", "--agent", "keep"); sum.Rows != 2 {
		s.Errorf("keep: %+v", sum)
	}
	s.query("OPTIMIZE TABLE DB.flows FINAL")
	s.want("SELECT count() FROM DB.flows WHERE agent = 'keep'", "2")
	if sum := s.must("csv", path, "--shift", "now", "--agent", "shift"); sum.Rows != 2 || time.Since(*sum.Last) > time.Minute {
		s.Errorf("shift: %+v", sum)
	}
	s.want("SELECT dateDiff('second', min(start), max(start)), max(start) > now() - 60 FROM DB.flows WHERE agent = 'shift'", "172800\t1")
	if _, err := s.run("csv", path, "--shift", "yesterday"); err == nil {
		s.Error("--shift yesterday is taken")
	}
}

func importChanged(s *store) {
	path := s.lines(10)
	s.must("csv", path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.Fatal(err)
	}
	fmt.Fprintf(f, "%s,0,10.0.0.1,10.0.0.2,1,2,udp,1,60,0,0,S0,\n", time.Now().UTC().Format(time.RFC3339))
	f.Close()
	if _, err := s.run("csv", path); err == nil || !strings.Contains(err.Error(), "other contents") {
		s.Errorf("error is %v", err)
	}
	s.want("SELECT count() FROM DB.flows", "10")
}

func importBadLines(s *store) {
	path := s.lines(3)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now().UTC()
	fmt.Fprintf(f, "too,few\n%s,0,nobody,10.0.0.2,1,2,udp,1,60,0,0,S0,\n%s,0,10.0.0.1,10.0.0.2,1,2,udp,1,60,0,0,S0,\n%s\n", now.Format(time.RFC3339), now.Add(72*time.Hour).Format(time.RFC3339), strings.Repeat("x", importer.MaxLine+1))
	f.Close()
	rejects := filepath.Join(s.TempDir(), "rejects")
	sum := s.must("csv", path, "--rejects", rejects)
	if sum.Rows != 3 || sum.Records != 4 || fmt.Sprint(sum.Rejected) != "map[in the future:1 line too long:1 value:1 wrong number of fields:1]" {
		s.Errorf("summary is %+v", sum)
	}
	if len(sum.Examples) != 3 || sum.Examples[0].Line != 5 || sum.Examples[1].Line != 6 {
		s.Errorf("examples are %+v", sum.Examples)
	}
	data, err := os.ReadFile(rejects)
	if err != nil {
		s.Fatal(err)
	}
	if !strings.Contains(string(data), "flows.csv:5: wrong number of fields: 2, want the 13 of the header\ntoo,few\n") {
		s.Errorf("rejects begin with %.300s", data)
	}
}

// capture makes a file of nfcapd from a capture, with the exporter that comes with nfdump.
func capture(t *testing.T) string {
	skip := t.Skipf
	if os.Getenv("CI") == "true" {
		skip = t.Fatalf
	}
	for _, tool := range []string{"nfdump", "nfpcapd"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip("%s is not installed (apt-get install nfdump)", tool)
		}
	}
	dir := t.TempDir()
	out, err := exec.Command("nfpcapd", "-r", sharedData+"/pcap/ops/http_espn.pcapng", "-w", dir).CombinedOutput()
	if err != nil {
		skip("no file of nfcapd: %v: %s", err, out)
	}
	return dir
}

func importNfcapd(s *store) {
	dir := capture(s.T)
	sum := s.must("nfcapd", dir, "--shift", "now")
	if sum.Rows == 0 || len(sum.Rejected) > 0 {
		s.Fatalf("summary is %+v", sum)
	}
	// nfdump's own sums over the file: packets and bytes of all flows.
	s.want("SELECT sum(packets), sum(bytes) FROM DB.flows", "956\t638797")
	s.want("SELECT countIf(proto = 17 AND dst_port = 53) > 0, countIf(src_port = 53), countIf(dst_packets > 0) > 0, countIf(proto NOT IN (6, 17)) FROM DB.flows", "1\t0\t1\t0")
	if again := s.must("nfcapd", dir, "--shift", "now"); again.Rows != 0 {
		s.Errorf("the second time: %+v", again)
	}
	whole, err := filepath.Glob(filepath.Join(dir, "nfcapd.*"))
	if err != nil || len(whole) == 0 {
		s.Fatalf("no file: %v", err)
	}
	data, err := os.ReadFile(whole[0])
	if err != nil {
		s.Fatal(err)
	}
	damaged := filepath.Join(s.TempDir(), "nfcapd.1")
	for name, text := range map[string][]byte{"half of it": data[:len(data)/2], "rubbish": append(data[:2:2], make([]byte, 4096)...)} {
		if err := os.WriteFile(damaged, text, 0o600); err != nil {
			s.Fatal(err)
		}
		if _, err := s.run("nfcapd", damaged, "--shift", "now"); err == nil || !strings.Contains(err.Error(), "nfdump") || !strings.Contains(err.Error(), "nothing is imported") {
			s.Errorf("%s: %v", name, err)
		}
	}
}

func importRefused(s *store) {
	dir := s.TempDir()
	for name, test := range map[string]struct{ command, text, want string }{
		"an unknown column":   {"csv", "start,src_ip,dst_ip,colour\n", `"colour"`},
		"a missing column":    {"csv", "start,src_ip\n", "dst_ip"},
		"a column twice":      {"csv", "start,src_ip,dst_ip,start\n", "twice"},
		"no CSV":              {"csv", "\xd4\xc3\xb2\xa1", "agent replay"},
		"no nfcapd":           {"nfcapd", "start,src_ip\n", `"start,src_ip"`},
		"a JSON array":        {"json", "[{}]", "jq"},
		"no JSON":             {"json", "start,src_ip\n", "not JSON lines"},
		"a gzip that is torn": {"json", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV", "damaged or cut off"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			s.Fatal(err)
		}
		if _, err := s.run(test.command, path); err == nil || !strings.Contains(err.Error(), test.want) {
			s.Errorf("%s: error is %v, want one with %q", name, err, test.want)
		}
	}
	if _, err := s.run("csv", "/dev/null"); err == nil || !strings.Contains(err.Error(), "regular file") {
		s.Errorf("a device: %v", err)
	}
	if _, err := s.run("csv"); err == nil || !strings.Contains(err.Error(), "name the files") {
		s.Errorf("nothing: %v", err)
	}
	s.cfg.ClickHouse.Database = s.ch.NewDatabase(s)
	if _, err := s.run("csv", s.lines(1)); err == nil || !strings.Contains(err.Error(), "ebbwatch-collector migrate") {
		s.Errorf("no tables: %v", err)
	}
	s.cfg.ClickHouse.Address = "127.0.0.1:1"
	if _, err := s.run("csv", s.lines(1)); err == nil || !strings.Contains(err.Error(), "is it running?") {
		s.Errorf("no ClickHouse: %v", err)
	}
}

// sharedData holds labelled data that the project may not contain (docs/import.md).
const sharedData = "../../../shared/data"

func importSharedData(s *store) {
	// The numbers of lines that are no comment, by zcat, grep and wc: of conn.log, and of dns.log, ssl.log and http.log.
	for set, want := range map[string]struct{ rows, hints uint64 }{
		"001-zeek-scenario-malicious": {992, 0}, "002-zeek-scenario-port-scanning": {4504, 0}, "008-zeek-mixed": {5663, 545 + 342}, "010-zeek-mixed": {5347, 8 + 1039 + 5},
		"missing_host": {31367, 1833 + 43 + 9873}, "proxy_rolling": {7550, 3209 + 2736 + 2368}, "apt29-day1": {613, 53}, "slips-port-scan-vertical": {50, 0},
	} {
		dir := filepath.Join(sharedData, "zeek", set)
		if _, err := os.Stat(dir); err != nil {
			s.Skipf("no labelled data here: %v", err)
		}
		sum := s.must("zeek", dir, "--shift", "now", "--agent", set, "--old", "skip")
		s.Logf("%s: %d rows of %d records, %v, hints %+v, %.0f rows/s", set, sum.Rows, sum.Records, sum.Rejected, *sum.Hints, float64(sum.Rows)/sum.Seconds)
		if sum.Rows != sum.Records || sum.Rows != want.rows {
			s.Errorf("%s: %d rows of %d records, want %d", set, sum.Rows, sum.Records, want.rows)
		}
		if h := sum.Hints; h.Read != want.hints || h.Matched+h.Further+h.Unmatched != h.Read || h.Rejected > 0 {
			s.Errorf("%s: hints are %+v, want %d", set, *h, want.hints)
		}
		if again := s.must("zeek", dir, "--shift", "now", "--agent", set, "--old", "skip"); again.Rows != 0 {
			s.Errorf("%s: %d rows the second time", set, again.Rows)
		}
	}
	s.want(rollupIsRaw, "1")
	s.query("ALTER TABLE DB.flows MODIFY SETTING min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0") // a compact part tells no sizes of columns
	s.query("OPTIMIZE TABLE DB.flows FINAL SETTINGS optimize_skip_merged_partitions = 0")
	s.Logf("bytes a flow, by column:\n%s", s.query("SELECT column, round(sum(column_bytes_on_disk) / any(total), 3) AS b FROM system.parts_columns, (SELECT count() AS total FROM DB.flows) AS t WHERE database = '"+s.cfg.ClickHouse.Database+"' AND table = 'flows' AND active GROUP BY column HAVING b >= 0.02 ORDER BY b DESC"))
	s.Logf("stored_bytes_per_flow: %s", s.query("SELECT round(sum(data_compressed_bytes) / sum(rows), 2), round(sum(bytes_on_disk) / sum(rows), 2), sum(rows), count() FROM system.parts WHERE database = '"+s.cfg.ClickHouse.Database+"' AND table = 'flows' AND active"))
}

// More names than a block may have, in fewer records than one has otherwise.
func importManyNames(s *store) {
	var b strings.Builder
	b.WriteString("start,src_ip,dst_ip,server_name,src_process,dst_process\n")
	now := time.Now().UTC().Add(-time.Hour)
	const n = 30_000
	for i := range n {
		fmt.Fprintf(&b, "%s,10.0.0.1,10.0.0.2,a%d,b%d,c%d\n", now.Format(time.RFC3339), i, i, i)
	}
	path := filepath.Join(s.TempDir(), "names.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		s.Fatal(err)
	}
	for round, want := range []uint64{n, 0} {
		if sum := s.must("csv", path); sum.Rows != want || len(sum.Rejected) > 0 {
			s.Errorf("time %d: %+v", round+1, sum)
		}
	}
	s.want("SELECT count(), uniqExact(server_name), uniqExact(src_process), uniqExact(dst_process) FROM DB.flows", "30000\t30000\t30000\t30000")
	s.want("SELECT blocks FROM DB.imports FINAL", "2")
}

// What counts no packets is told, since flows_1m leaves it out.
func importWithoutPackets(s *store) {
	path := filepath.Join(s.TempDir(), "flows.csv")
	now := time.Now().UTC().Format(time.RFC3339)
	if err := os.WriteFile(path, []byte("start,src_ip,dst_ip,dst_packets\n"+now+",10.0.0.1,10.0.0.2,\n"+now+",10.0.0.1,10.0.0.2,1\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	if sum := s.must("csv", path); sum.Rows != 2 || sum.WithoutPackets != 1 {
		s.Errorf("%+v", sum)
	}
	s.want("SELECT (SELECT count() FROM DB.flows), (SELECT sum(records) FROM DB.flows_1m)", "2\t1")
	if sum := s.must("csv", path); sum.WithoutPackets != 0 {
		s.Errorf("the second time: %+v", sum)
	}
}

func importSameContent(s *store) {
	path := s.lines(10)
	data, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(path), "copy.csv")
	if err := os.WriteFile(other, data, 0o600); err != nil {
		s.Fatal(err)
	}
	for round, want := range []uint64{10, 0} {
		sum := s.must("csv", path, other)
		if sum.Rows != want || len(sum.Files) != 1 || len(sum.LeftOut) != 1 || sum.LeftOut[0].File != other {
			s.Errorf("time %d: %+v", round+1, sum)
		}
	}
	s.want("SELECT count() FROM DB.flows", "10")
}

func importRejects(s *store) {
	path := s.lines(10)
	before, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	link := filepath.Join(s.TempDir(), "link")
	if err := os.Link(path, link); err != nil {
		s.Fatal(err)
	}
	for _, rejects := range []string{path, link} {
		if _, err := s.run("csv", filepath.Dir(path), "--rejects", rejects); err == nil || !strings.Contains(err.Error(), "choose another file") {
			s.Errorf("error is %v", err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		s.Errorf("the file has %d bytes now, of %d, %v", len(after), len(before), err)
	}
	bad := filepath.Join(s.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte("start,src_ip,dst_ip\nx\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	rejects := filepath.Join(s.TempDir(), "rejects")
	for range 2 { // the second adds to what the first wrote
		s.must("csv", bad, "--rejects", rejects, "--again")
	}
	if data, err := os.ReadFile(rejects); err != nil || strings.Count(string(data), "wrong number of fields") != 2 {
		s.Errorf("rejects are %q, %v", data, err)
	}
}

func TestASummaryDoesNothingToATerminal(t *testing.T) {
	var out bytes.Buffer
	evil := "\x1b]0;owned\a"
	sum := importer.Summary{
		Files: []importer.FileSummary{{File: evil}}, LeftOut: []importer.LeftOut{{File: evil, Why: evil}},
		Examples: []importer.Example{{File: evil, Detail: evil}}, Rejected: map[string]uint64{},
	}
	if err := tell(&out, &sum); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\a") || strings.Count(text, `\x1b]0;owned\a`) != 5 {
		t.Errorf("the summary is %q", text)
	}
}
