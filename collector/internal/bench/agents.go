package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/internal/loadgen"
)

// fleets are the sizes that are measured: 100 flows each 5 s and agent.
var fleets = []int{1, 10, 100, 1000, 10_000}

// of each fleet, by the name that agentsName makes of it.
var agentFigures = []string{
	"sent_flows", "lag_quarter1_seconds", "lag_quarter2_seconds", "lag_quarter3_seconds", "lag_quarter4_seconds", "drained_after_seconds", "late_ms",
	"collector_cpu_ns_per_flow", "clickhouse_cpu_ns_per_flow", "collector_rss_bytes", "clickhouse_rss_bytes",
}

func agentsName(agents int, figure string) string { return fmt.Sprintf("agents_%d_%s", agents, figure) }

func agentsNames() (names []string) {
	for _, n := range fleets {
		for _, figure := range agentFigures {
			names = append(names, agentsName(n, figure))
		}
	}
	return names
}

// agents plays fleets of growing size for the given time each, and fails unless
// every flow that was sent is stored once. The lag is how long ago that was sent
// which is stored at the moment: the median of each quarter of the time, so that
// one that grows shows.
func agents(ctx context.Context, duration time.Duration, verbose bool) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	values := make(map[string]float64)
	for _, n := range fleets {
		if err := playFleet(ctx, filepath.Join(dir, fmt.Sprint(n)), n, duration, verbose, values); err != nil {
			return nil, fmt.Errorf("%d agents: %w", n, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprint(n))); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func playFleet(ctx context.Context, dir string, n int, duration time.Duration, verbose bool, values map[string]float64) error {
	const database = "ebbwatch_agents"
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{database}, verbose)
	if err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	server, err := natstest.New(filepath.Join(dir, "nats"))
	if err != nil {
		return err
	}
	defer server.Stop()
	if err := makeStreams(ctx, server.URL); err != nil {
		return err
	}
	collector, err := startCollector(server.URL, ch, database, 1, verbose)
	if err != nil {
		return err
	}
	defer collector.Stop()
	if err := waitForTables(ctx, ch, database, collector); err != nil {
		return err
	}

	var progress loadgen.Progress
	cfg := loadgen.DefaultConfig()
	cfg.NATS.URL, cfg.Agents, cfg.Duration = server.URL, n, duration
	watched := make(chan lags, 1)
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	engine := ch.CPUSeconds()
	go func() { watched <- watchLag(watchCtx, ch, database, n, duration, &progress) }()
	sent, err := loadgen.Run(ctx, cfg, slog.New(slog.DiscardHandler), &progress)
	stop()
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	lag := <-watched
	drained := time.Now()
	for {
		rows, err := storedRows(ctx, ch, database)
		switch {
		case err != nil:
			return err
		case rows > sent.Flows:
			return fmt.Errorf("sent %d flows, stored %d", sent.Flows, rows)
		case rows == sent.Flows:
		case time.Since(drained) > 2*time.Minute:
			return fmt.Errorf("sent %d flows, stored %d after two more minutes: %s", sent.Flows, rows, collector.Output())
		default:
			time.Sleep(50 * time.Millisecond)
			continue
		}
		break
	}
	values[agentsName(n, "drained_after_seconds")] = time.Since(drained).Seconds()
	values[agentsName(n, "collector_cpu_ns_per_flow")] = collector.CPUSeconds() * 1e9 / float64(sent.Flows)
	values[agentsName(n, "clickhouse_cpu_ns_per_flow")] = (ch.CPUSeconds() - engine) * 1e9 / float64(sent.Flows)
	values[agentsName(n, "collector_rss_bytes")] = collector.PeakRSS()
	values[agentsName(n, "clickhouse_rss_bytes")] = ch.PeakRSS()
	values[agentsName(n, "sent_flows")] = float64(sent.Flows)
	values[agentsName(n, "late_ms")] = float64(sent.LateMS)
	for q, seconds := range lag {
		if len(seconds) > 0 {
			values[agentsName(n, fmt.Sprintf("lag_quarter%d_seconds", q+1))] = median(seconds)
		}
	}
	collector.Stop() // when it has ended, what the last insert set off is over too
	return checkSums(ctx, ch, database, sent)
}

// lags are samples of each quarter of the time, in seconds.
type lags [4][]float64

// watchLag looks at what is stored until ctx ends, and tells on standard error.
func watchLag(ctx context.Context, ch *proctest.ClickHouse, database string, agents int, duration time.Duration, progress *loadgen.Progress) (all lags) {
	type mark struct {
		at    time.Time
		flows uint64
	}
	var marks []mark // when so many flows had been sent
	began := time.Now()
	for tick := 1; ctx.Err() == nil; tick++ {
		now := time.Now()
		marks = append(marks, mark{now, progress.Flows.Load()})
		rows, err := storedRows(ctx, ch, database)
		if err != nil {
			break
		}
		i := 0
		for i < len(marks)-1 && marks[i+1].flows <= rows {
			i++
		}
		marks = marks[i:]
		lag := 0.0
		if marks[len(marks)-1].flows > rows {
			lag = now.Sub(marks[0].at).Seconds()
		}
		q := min(int(4*now.Sub(began)/duration), 3)
		all[q] = append(all[q], lag)
		if tick%20 == 0 {
			fmt.Fprintf(os.Stderr, "%5d agents, %3.0f s: %d flows sent, %d stored, lag %.1f s\n", agents, now.Sub(began).Seconds(), progress.Flows.Load(), rows, lag)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return all
}

func storedRows(ctx context.Context, ch *proctest.ClickHouse, database string) (rows uint64, err error) {
	return rows, ch.Conn.QueryRow(ctx, "SELECT sum(rows) FROM system.parts WHERE active AND table = 'flows' AND database = ?", database).Scan(&rows)
}

// checkSums holds what is stored and rolled up against what was sent.
func checkSums(ctx context.Context, ch *proctest.ClickHouse, database string, sent loadgen.Result) error {
	var raw, rawBytes, rolled, rolledBytes uint64
	if err := ch.Conn.QueryRow(ctx, "SELECT count(), sum(src_bytes + dst_bytes) FROM "+database+".flows").Scan(&raw, &rawBytes); err != nil {
		return err
	}
	if err := ch.Conn.QueryRow(ctx, "SELECT sum(records), sum(src_bytes + dst_bytes) FROM "+database+".flows_1m").Scan(&rolled, &rolledBytes); err != nil {
		return err
	}
	if raw != sent.Flows || rolled != raw || rawBytes != sent.FlowBytes || rolledBytes != rawBytes {
		return fmt.Errorf("sent %d flows (%d B), stored %d (%d B), rolled up %d (%d B)", sent.Flows, sent.FlowBytes, raw, rawBytes, rolled, rolledBytes)
	}
	return nil
}

func makeStreams(ctx context.Context, url string) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	_, err = consume.Ensure(ctx, js, consume.DefaultConfig())
	return err
}

func startCollector(url string, ch *proctest.ClickHouse, database string, shards int, verbose bool) (*proctest.Process, error) {
	return proctest.Ebbwatch(verbose, []string{
		"EBBWATCH_NATS_URL=" + url, "EBBWATCH_LISTEN=", fmt.Sprint("EBBWATCH_STREAMS_SHARDS=", shards), "EBBWATCH_CLICKHOUSE_ADDRESS=" + ch.Addr, "EBBWATCH_CLICKHOUSE_DATABASE=" + database,
		"EBBWATCH_CLICKHOUSE_USER=" + proctest.User, "EBBWATCH_CLICKHOUSE_PASSWORD=" + ch.Password,
	}, "collector", "run")
}

// waitForTables returns when the collector has migrated the database.
func waitForTables(ctx context.Context, ch *proctest.ClickHouse, database string, collector *proctest.Process) error {
	for {
		var tables uint64
		if err := ch.Conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = 'flows'", database).Scan(&tables); err != nil {
			return err
		}
		if tables > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-collector.Done():
			return fmt.Errorf("the collector ended: %s", collector.Output())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
