package schema_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/columns.md")

const (
	columnsPage = "../../../docs/columns.md"
	columnsHead = `# Tables and columns

<!-- Made from the migrations by: cd collector && go test ./internal/schema -run TestMigrator -update -->

What SQL users read, in the database ` + "`ebbwatch`" + `. The same words stand as comments in ClickHouse: ` + "`DESCRIBE TABLE flows`" + `.
[detectors.md](detectors.md) tells what becomes of it.

- **Conservation.** For each attach point and drain, packets and bytes alike: seen = recorded + overflow + other + skipped, exactly (` + "`coverage`" + `). The view
  ` + "`unrecorded`" + ` tells why packets stand in no record.
- **Sampling.** Where ` + "`sampling`" + ` is N, one packet in N was taken: the counters of flow records are scaled up and estimate all packets, also the skipped ones;
  ` + "`recorded_packets`" + ` of ` + "`coverage`" + ` are those taken. Coverage in percent is that of the packets taken. Numbers of conversations are not scaled: short ones are missed.
- **Early warnings.** ` + "`features`" + ` and ` + "`sources`" + ` come each second, before the flow records of their drain. A batch that holds nothing else leaves a row with
  ` + "`interval_ms = 0`" + ` in ` + "`coverage`" + `, so that a gap in ` + "`sequence`" + ` shows: add ` + "`interval_ms > 0`" + ` where drains are counted.
- **Names** (` + "`server_name`" + `, processes, fingerprints) are what others sent: valid UTF-8 of at most 255 bytes, and still an attacker's words.
- Columns of the attributes are empty or 0 where the agent's kernel, privileges or configuration do not give them.
`
)

// columnsDocument holds docs/columns.md against the database.
func columnsDocument(t *testing.T, b *bed) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	type column struct{ Table, Name, Type, Comment, Kind string }
	columns := make(map[string][]column)
	for line := range strings.Lines(b.ch.Query(t, "SELECT table, name, type, comment, default_kind AS kind FROM system.columns WHERE database = '"+b.conn.Database+"' ORDER BY table, position FORMAT JSONEachRow")) {
		var c column
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		columns[c.Table] = append(columns[c.Table], c)
	}
	var text strings.Builder
	text.WriteString(columnsHead)
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	for _, part := range []struct{ head, engines string }{{"Tables", "engine LIKE '%MergeTree'"}, {"Views", "engine = 'View'"}} {
		fmt.Fprintf(&text, "\n## %s\n", part.head)
		for line := range strings.Lines(b.ch.Query(t, "SELECT name, comment FROM system.tables WHERE database = '"+b.conn.Database+"' AND "+part.engines+" AND name != 'schema_migrations' ORDER BY name FORMAT JSONEachRow")) {
			var table struct{ Name, Comment string }
			if err := json.Unmarshal([]byte(line), &table); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "\n### %s\n\n%s\n", table.Name, table.Comment)
			if part.head == "Views" {
				if arguments[table.Name] != "" { // ClickHouse does not know their columns
					fmt.Fprintf(&text, "\n    SELECT * FROM %s%s\n", table.Name, arguments[table.Name])
					continue
				}
				text.WriteString("\n| column | meaning |\n|---|---|\n")
				for _, c := range columns[table.Name] {
					fmt.Fprintf(&text, "| `%s` | %s |\n", c.Name, cell(c.Comment))
				}
				continue
			}
			text.WriteString("\n| column | type | meaning |\n|---|---|---|\n")
			for _, c := range columns[table.Name] {
				computed := ""
				if c.Kind == "ALIAS" {
					computed = " (computed)"
				}
				fmt.Fprintf(&text, "| `%s` | `%s`%s | %s |\n", c.Name, cell(c.Type), computed, cell(c.Comment))
			}
		}
	}
	if *update {
		if err := os.WriteFile(columnsPage, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(columnsPage)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Split(string(page), "\n"), strings.Split(text.String(), "\n"); !slices.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("docs/columns.md, line %d says\n%s\nand the database\n%s\nRun the test with -update.", i+1, got[i], want[i])
			}
		}
		t.Fatalf("docs/columns.md has %d lines, the database gives %d. Run the test with -update.", len(got), len(want))
	}
}
