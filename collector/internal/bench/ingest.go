package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// shardCounts are the numbers of shards of the stream that are measured at one
// collector: 1, and what docs/fleet.md advises for three collectors.
var shardCounts = []int{1, 6}

// of each number of shards, by the name that ingestName makes of it.
var ingestFigures = []string{
	"flows_per_s", "publish_batches_per_s", "clickhouse_cpu_ns_per_flow", "collector_cpu_ns_per_flow", "nats_cpu_ns_per_flow", "rows_per_part", "collector_rss_bytes", "clickhouse_rss_bytes",
}

// ofStore are figures that do not depend on the number of shards.
var ofStore = []string{"ingest_stored_bytes_per_flow", "rollup_bytes_per_flow"}

func ingestName(shards int, figure string) string {
	if shards == 1 {
		return "ingest_" + figure
	}
	return fmt.Sprintf("ingest_%d_shards_%s", shards, figure)
}

func ingestNames() (names []string) {
	for _, shards := range shardCounts {
		for _, figure := range ingestFigures {
			names = append(names, ingestName(shards, figure))
		}
	}
	return append(names, ofStore...)
}

// ingest measures rounds of: fill the stream, start a collector, wait until
// every flow is in the table. The rate counts from the first commit that is
// seen to the last, so that start-up does not dilute it; merges go on meanwhile.
// Rounds of each number of shards take turns, because the host may be noisy.
func ingest(ctx context.Context, flows, rounds int, syncAlways, verbose bool) (map[string]float64, error) {
	all, err := messages(flows, 1000, (*flowgen.Fleet).Next)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var databases []string
	for i := range rounds * len(shardCounts) {
		databases = append(databases, fmt.Sprintf("ebbwatch_%d", i))
	}
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), databases, verbose, fmt.Sprintf("EBBWATCH_CLICKHOUSE_SYNC_ALWAYS=%v", syncAlways))
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	samples := make(map[string][]float64)
	for i, database := range databases {
		r := round{
			dir: filepath.Join(dir, fmt.Sprintf("nats-%d", i)), database: database, ch: ch, shards: shardCounts[i%len(shardCounts)],
			messages: all, flows: uint64(len(all) * flowsPerBatch), syncAlways: syncAlways, verbose: verbose,
		}
		values, err := r.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
		for name, value := range values {
			if !slices.Contains(ofStore, name) {
				name = ingestName(r.shards, name)
			}
			samples[name] = append(samples[name], value)
		}
	}
	medians := make(map[string]float64)
	for name, values := range samples {
		medians[name] = median(values)
	}
	return medians, nil
}

type round struct {
	dir, database string
	ch            *proctest.ClickHouse
	shards        int
	messages      []message
	flows         uint64
	syncAlways    bool
	verbose       bool
}

func (r *round) run(ctx context.Context) (map[string]float64, error) {
	server, err := natstest.New(r.dir, func(o *server.Options) { o.SyncAlways = r.syncAlways })
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	began := time.Now()
	if err := r.fill(ctx, server.URL); err != nil {
		return nil, fmt.Errorf("fill the stream: %w", err)
	}
	published := float64(len(r.messages)) / time.Since(began).Seconds()
	collector, err := startCollector(server.URL, r.ch, r.database, r.shards, r.verbose)
	if err != nil {
		return nil, err
	}
	defer collector.Stop()
	engineBefore, selfBefore := r.ch.CPUSeconds(), proctest.CPUSeconds(os.Getpid())-r.ch.CPUSeconds()-collector.CPUSeconds()
	rate, err := r.watch(ctx, collector)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{
		"flows_per_s": rate, "publish_batches_per_s": published, "collector_rss_bytes": collector.PeakRSS(), "clickhouse_rss_bytes": r.ch.PeakRSS(),
	}
	perFlow := func(seconds float64) float64 { return seconds * 1e9 / float64(r.flows) }
	values["clickhouse_cpu_ns_per_flow"] = perFlow(r.ch.CPUSeconds() - engineBefore)
	values["collector_cpu_ns_per_flow"] = perFlow(collector.CPUSeconds())
	values["nats_cpu_ns_per_flow"] = perFlow(proctest.CPUSeconds(os.Getpid()) - r.ch.CPUSeconds() - collector.CPUSeconds() - selfBefore) // this process runs it
	collector.Stop()
	return values, r.check(ctx, values)
}

// fill publishes every message into a fresh stream.
func (r *round) fill(ctx context.Context, url string) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		return err
	}
	cfg := consume.DefaultConfig()
	cfg.Shards = r.shards
	if _, err := consume.Ensure(ctx, js, cfg); err != nil {
		return err
	}
	for _, m := range r.messages {
		if _, err := js.PublishAsync(m.subject, m.data, jetstream.WithMsgID(m.id), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	stream, err := js.Stream(ctx, ebbwatch.FlowStream)
	if err != nil {
		return err
	}
	if n := stream.CachedInfo().State.Msgs; n != uint64(len(r.messages)) {
		return fmt.Errorf("the stream holds %d of %d messages", n, len(r.messages))
	}
	return nil
}

// watch returns the flows per second between the first and the last commit.
func (r *round) watch(ctx context.Context, collector *proctest.Process) (float64, error) {
	var first time.Time
	var before uint64
	for {
		rows, err := storedRows(ctx, r.ch, r.database)
		now := time.Now()
		switch {
		case err != nil:
			return 0, err
		case first.IsZero() && rows > 0:
			first, before = now, rows
		case rows >= r.flows && rows > before:
			return float64(rows-before) / now.Sub(first).Seconds(), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-collector.Done():
			return 0, fmt.Errorf("the collector ended: %s", collector.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check holds raw against rollup and reads the sizes after all merges.
func (r *round) check(ctx context.Context, values map[string]float64) error {
	var raw, rolled, rawBytes, rolledBytes uint64
	if err := r.ch.Conn.QueryRow(ctx, "SELECT count(), sum(src_bytes + dst_bytes) FROM "+r.database+".flows").Scan(&raw, &rawBytes); err != nil {
		return err
	}
	if err := r.ch.Conn.QueryRow(ctx, "SELECT sum(records), sum(src_bytes + dst_bytes) FROM "+r.database+".flows_1m").Scan(&rolled, &rolledBytes); err != nil {
		return err
	}
	if raw != r.flows || rolled != raw || rawBytes != rolledBytes {
		return fmt.Errorf("sent %d flows, stored %d (%d B), rolled up %d (%d B)", r.flows, raw, rawBytes, rolled, rolledBytes)
	}
	if err := sizes(ctx, r.ch.Conn, r.database, "flows", "ingest_stored_bytes_per_flow", values); err != nil {
		return err
	}
	rollup := make(map[string]float64)
	if err := sizes(ctx, r.ch.Conn, r.database, "flows_1m", "size", rollup); err != nil {
		return err
	}
	var rows uint64
	if err := r.ch.Conn.QueryRow(ctx, "SELECT count() FROM "+r.database+".flows_1m").Scan(&rows); err != nil {
		return err
	}
	values["rollup_bytes_per_flow"] = rollup["size"] * float64(rows) / float64(raw)
	var parts int64 // the numbers of a partition's blocks count the parts that were ever inserted
	err := r.ch.Conn.QueryRow(ctx, "SELECT sum(parts) FROM (SELECT max(max_block_number) AS parts FROM system.parts WHERE active AND table = 'flows' AND database = ? GROUP BY partition_id)", r.database).Scan(&parts)
	if err != nil {
		return err
	}
	values["rows_per_part"] = float64(raw) / float64(parts)
	return nil
}
