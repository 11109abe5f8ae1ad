// Command bench measures the analyzer and prints one JSON object
// {"name","value","unit"} a line. The servers are real and run on this host, the
// commands are those of $EBBWATCH_BIN.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	rounds := flag.Int("rounds", 3, "rounds of which the median is printed")
	duration := flag.Duration("duration", 20*time.Second, "time that the analyzer works in a round")
	verbose := flag.Bool("v", false, "show what the analyzer logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	units := map[string]string{"analyzer_rss_bytes": "bytes", "analyzer_cpu_share": "cores"}
	names := []string{"analyzer_rss_bytes", "analyzer_cpu_share"}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, *only) })
	if len(names) == 0 {
		return 0
	}
	samples, err := measure(ctx, *rounds, *duration, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	for _, name := range names {
		values := samples[name]
		slices.Sort(values)
		err := json.NewEncoder(os.Stdout).Encode(struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
			Unit  string  `json:"unit"`
		}{name, values[len(values)/2], units[name]})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	return 0
}

// measure runs an analyzer in each round on a ClickHouse with a million flows of
// the last five minutes, from a hundred agents that go on beating.
func measure(ctx context.Context, rounds int, duration time.Duration, verbose bool) (samples map[string][]float64, err error) {
	binary := os.Getenv("EBBWATCH_BIN")
	if binary == "" {
		return nil, errors.New("set EBBWATCH_BIN to the command ebbwatch")
	}
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	engine, err := startEngine(ctx, binary, filepath.Join(dir, "clickhouse"))
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer engine.stop()
	if err := engine.migrate(ctx); err != nil {
		return nil, err
	}
	samples = make(map[string][]float64)
	for i := range rounds {
		rss, cpu, err := engine.round(ctx, binary, filepath.Join(dir, fmt.Sprintf("nats-%d", i)), duration, verbose)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
		samples["analyzer_rss_bytes"] = append(samples["analyzer_rss_bytes"], rss)
		samples["analyzer_cpu_share"] = append(samples["analyzer_cpu_share"], cpu)
	}
	return samples, nil
}
