// Command bench measures the collector and prints one JSON object
// {"name","value","unit"} a line. Medians; the servers are real and run on this
// host, the commands are those of $EBBWATCH_BIN.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	only := flag.String("only", "", "measure only what has a name with this `prefix`")
	flows := flag.Int("flows", 12_000_000, "flow records of one round of ingestion: fewer end before merges catch up, and flatter")
	rounds := flag.Int("rounds", 3, "rounds of ingestion")
	played := flag.Duration("played", 20*time.Second, "`time` for which each fleet is played")
	importBytes := flag.Int64("import-bytes", 100<<20, "`size` of the log that is imported")
	columns := flag.Bool("columns", false, "report the bytes of each stored column too")
	dayDir := flag.String("day", os.Getenv("EBBWATCH_BENCH_DAY"), "`folder` of the day of flows that is asked; default ~/.cache/ebbwatch/bench-day")
	build := flag.Int("build-day", 0, "build a day of so `many` flows first, if it is not there")
	syncAlways := flag.Bool("sync-always", false, "NATS and ClickHouse sync to the disk before they answer, for ingestion")
	verbose := flag.Bool("v", false, "show what the servers and the collector log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *dayDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		*dayDir = filepath.Join(cache, "ebbwatch", "bench-day")
	}
	if *build > 0 {
		if err := buildDay(ctx, *dayDir, *build, *verbose); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	groups := []struct {
		names []string
		run   func() (map[string]float64, error)
	}{
		{[]string{"decode_append_ns_per_flow", "decode_append_all_columns_ns_per_flow", "encode_insert_ns_per_flow", "encode_insert_all_columns_ns_per_flow", "message_bytes_per_flow", "message_all_columns_bytes_per_flow"}, decodeAppend},
		{
			ingestNames(),
			func() (map[string]float64, error) { return ingest(ctx, *flows, *rounds, *syncAlways, *verbose) },
		},
		{
			[]string{"stage_insert_ns_per_flow", "stage_insert_without_rollups_ns_per_flow", "stage_merge_ns_per_flow"},
			func() (map[string]float64, error) { return stages(ctx, *verbose) },
		},
		{[]string{"enrich_lookup_ns", "enrich_lookup_ipv6_ns", "enrich_lookup_again_ns", "enrich_append_ns_per_flow", "enrich_encode_ns_per_flow", "enrich_load_ms"}, func() (map[string]float64, error) { return enrichment(ctx) }},
		{agentsNames(), func() (map[string]float64, error) { return agents(ctx, *played, *verbose) }},
		{
			[]string{"import_rows_per_s", "import_rss_bytes", "import_gz_rows_per_s", "import_gz_rss_bytes"},
			func() (map[string]float64, error) { return imports(ctx, *importBytes, *verbose) },
		},
		{[]string{storedFigure, "stored_zeek_bytes_per_flow", "stored_captures_bytes_per_flow"}, func() (map[string]float64, error) { return stored(ctx, *verbose) }},
		{queryNames(), func() (map[string]float64, error) { return queries(ctx, *dayDir, *verbose) }},
	}
	for _, g := range groups {
		if !slices.ContainsFunc(g.names, func(name string) bool { return strings.HasPrefix(name, *only) }) {
			continue
		}
		values, err := g.run()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		names := g.names
		if *columns {
			var each []string
			for name := range values {
				if strings.HasPrefix(name, storedColumn) {
					each = append(each, name)
				}
			}
			slices.SortFunc(each, func(a, b string) int { return cmp.Compare(values[b], values[a]) })
			names = append(names, each...)
		}
		for _, name := range names {
			if value, ok := values[name]; ok && (strings.HasPrefix(name, *only) || strings.HasPrefix(name, storedColumn)) {
				if err := report(name, value); err != nil {
					fmt.Fprintln(os.Stderr, "bench:", err)
					return 1
				}
			}
		}
	}
	return 0
}

// units by the end of the name.
var units = []struct{ suffix, unit string }{
	{"_ns_per_flow", "ns"}, {"_seconds", "s"}, {"_sent_flows", "flows"}, {"query_flows", "flows"}, {"_flows_per_s", "flows/s"}, {"_rows_per_s", "rows/s"}, {"_batches_per_s", "batches/s"},
	{"_bytes_per_flow", "bytes"}, {"_bytes", "bytes"}, {"_rows_per_part", "rows"}, {"_ns", "ns"}, {"_ms", "ms"},
}

func report(name string, value float64) error {
	for _, u := range units {
		if strings.HasSuffix(name, u.suffix) {
			return json.NewEncoder(os.Stdout).Encode(struct {
				Name  string  `json:"name"`
				Value float64 `json:"value"`
				Unit  string  `json:"unit"`
			}{name, value, u.unit})
		}
	}
	return fmt.Errorf("no unit for %s", name)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
