package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/migrations"
)

// filledByTheCollector are columns of the table that no record brings along.
var filledByTheCollector = []string{
	"src_country", "src_asn", "src_network", "src_tags", "dst_country", "dst_asn", "dst_network", "dst_tags", "agent_tags",
}

// sqlColumns returns the columns of the table flows that are stored.
func sqlColumns(t *testing.T) []string {
	t.Helper()
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("(?m)^\\s+`([a-z0-9_]+)` ([^\n]*)")
	added := regexp.MustCompile("ADD COLUMN (?:IF NOT EXISTS )?`?([a-z0-9_]+)`? ([^\n]*)")
	var columns []string
	for _, m := range all {
		for _, step := range m.Steps {
			var found [][]string
			switch {
			case strings.HasPrefix(step, "CREATE TABLE IF NOT EXISTS flows\n"):
				found = name.FindAllStringSubmatch(step, -1)
			case strings.HasPrefix(step, "ALTER TABLE flows\n"), strings.HasPrefix(step, "ALTER TABLE flows "):
				found = added.FindAllStringSubmatch(step, -1)
			}
			for _, f := range found {
				if !strings.Contains(f[2], " ALIAS ") && !slices.Contains(filledByTheCollector, f[1]) {
					columns = append(columns, f[1])
				}
			}
		}
	}
	return columns
}

func TestTheKeysAreTheColumnsOfTheTableAndTheContract(t *testing.T) {
	var got, want []string
	for _, c := range columns() {
		got = append(got, c.name)
	}
	sql := sqlColumns(t)
	if len(sql) < 20 {
		t.Fatalf("only %d columns found in the migrations", len(sql))
	}
	want = append(want, sql...)
	want = append(want, "end")
	for a := range ebbwatch.Attributes {
		if !slices.Contains(want, a.Name()) {
			want = append(want, a.Name())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("keys\n%s, want\n%s", strings.Join(got, " "), strings.Join(want, " "))
	}
}

func TestARecordBecomesOneLineOfJSON(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	f := ebbwatch.Flow{
		Start: start, End: start.Add(1500 * time.Millisecond),
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("2001:db8::1"), SrcPort: 1234, DstPort: 443, Proto: 6,
		Initiator: ebbwatch.InitiatorSYN, Interface: "a \"file\"\x1b[2J.pcap", SrcPackets: 1<<64 - 1, ConnState: ebbwatch.StateSF, Final: true, Sampling: 1,
		Tunnel: ebbwatch.TunnelGRE, TunnelID: 7, SrcFlags: 0x1ff,
	}
	f.Hint.ServerName = "bücher.example\n"
	var out bytes.Buffer
	w := NewJSON(&out)
	if err := w.Record(&f); err != nil {
		t.Fatal(err)
	}
	sum := newTotals()
	sum.refuse(reasonCut, 10)
	sum.refuse(reasonCut, 20)
	if err := w.Totals(&sum, errors.New("broken")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	var record map[string]any
	decoder := json.NewDecoder(strings.NewReader(lines[0]))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"agent": "replay", "interface": f.Interface, "start": "2026-03-01T11:00:00.123456Z", "end": "2026-03-01T11:00:01.623456Z",
		"duration_ms": json.Number("1500"), "src_ip": "192.0.2.1", "dst_ip": "2001:db8::1", "dst_port": json.Number("443"),
		"initiator": "syn", "src_packets": json.Number("18446744073709551615"), "src_flags": json.Number("511"), "conn_state": "SF",
		"final": true, "tunnel": "gre", "tunnel_id": json.Number("7"), "server_name": "bücher.example\n", "app": ebbwatch.AppNone.String(),
	} {
		if record[key] != want {
			t.Errorf("%s is %v, want %v", key, record[key], want)
		}
	}
	if want := `{"totals":{"seen":{"packets":0,"bytes":0},"recorded":{"packets":0,"bytes":0},"overflowed":{"packets":0,"bytes":0},` +
		`"refused":{"packets":2,"bytes":30,"reasons":{"truncated":2}},"records":0,"conversations":0,"evicted":0,"first":"","last":"","error":"broken"}}`; lines[1] != want {
		t.Errorf("totals\n%s, want\n%s", lines[1], want)
	}
}

func TestTheTableEscapesWhatComesFromTheNetwork(t *testing.T) {
	var out bytes.Buffer
	w := NewText(&out)
	f := ebbwatch.Flow{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"), Proto: 17}
	f.Hint.ServerName = "\x1b]0;owned\x07"
	if err := w.Record(&f); err != nil {
		t.Fatal(err)
	}
	sum := newTotals()
	if err := w.Totals(&sum, nil); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\x07") || !strings.Contains(got, `"\x1b]0;owned\a"`) {
		t.Errorf("table %q", got)
	}
}
