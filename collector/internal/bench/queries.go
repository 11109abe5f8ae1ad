package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// questions are what people ask of a day's flows, from the view that is made for
// it. {end} is the end of the data, {host} an address of the fleet and {server}
// the address that most of the fleet talks to.
var questions = []struct{ name, query string }{
	{"top_talkers_hour", "SELECT * FROM top_talkers_between(since = {end} - INTERVAL 1 HOUR, until = {end}) LIMIT 20"},
	{"host_day", "SELECT * FROM hours_of(address = {host}, since = {end} - INTERVAL 1 DAY, until = {end})"},
	{"who_talked_to", "SELECT * FROM peers_of(address = {server}, since = {end} - INTERVAL 1 DAY, until = {end}) LIMIT 50"},
	{"new_pairs_today", "SELECT * FROM new_pairs_since(since = toStartOfDay({end})) LIMIT 50"},
	{"bytes_by_process_day", "SELECT process, role, sum(sent_bytes) AS sent, sum(received_bytes) AS received FROM process_traffic_between(since = {end} - INTERVAL 1 DAY, until = {end}) GROUP BY process, role ORDER BY sent + received DESC"},
	{"bytes_by_process_hour", "SELECT * FROM process_traffic_between(since = {end} - INTERVAL 1 HOUR, until = {end}) LIMIT 50"},
	{"flows_of_an_hour", "SELECT count(), sum(src_bytes + dst_bytes) FROM flows WHERE start >= {end} - INTERVAL 1 HOUR"},
	{"p95_rtt_by_service_hour", "SELECT * FROM service_rtt_between(since = {end} - INTERVAL 1 HOUR, until = {end}) LIMIT 50"},
}

// queryNames returns the names of the figures of questions.
func queryNames() []string {
	names := []string{"query_flows"}
	for _, q := range questions {
		names = append(names, "query_"+q.name+"_ms")
	}
	return names
}

const (
	dayDatabase = "ebbwatch_day"
	dayAgents   = 200
	dayInterval = 30 * time.Second
)

// day is a day of a fleet's flows: a database that is built once and kept.
type day struct {
	Rows uint64    `json:"rows"`
	End  time.Time `json:"end"`
}

// dayFile is in the folder of the data once they are complete.
const dayFile = "day.json"

// buildDay fills a database in dir with a day of a fleet through the collector's
// own decoder, blocks and inserts, and leaves its parts as the server merges them
// by itself. What is there already is not built again.
func buildDay(ctx context.Context, dir string, rows int, verbose bool) error {
	if d, err := readDay(dir); err == nil && d.Rows >= uint64(rows) {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{dayDatabase}, verbose)
	if err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	conn, err := migrated(ctx, ch, dayDatabase)
	if err != nil {
		return err
	}
	defer conn.Close()
	d := day{End: time.Now().UTC().Truncate(time.Hour)}
	blocks, failed := dayBlocks(ctx, d.End, rows)
	writer := sink.NewWriter(sink.DefaultConfig(), owner(ch, dayDatabase), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	defer writer.Close()
	began, told := time.Now(), time.Now()
	for block := range blocks {
		if err := writer.WriteWithin(ctx, block, fmt.Sprint("day:", d.Rows), time.Minute); err != nil {
			return err
		}
		d.Rows += uint64(block.Rows())
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			left := time.Duration(float64(rows)/float64(d.Rows)*float64(time.Since(began))) - time.Since(began)
			fmt.Fprintf(os.Stderr, "bench: %d of %d million flows, %s left\n", d.Rows/1e6, rows/1e6, left.Round(time.Second))
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	if err := quiet(ctx, conn); err != nil {
		return err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, dayFile), text, 0o600)
}

// dayBlocks makes blocks of the size that a busy collector inserts, one ahead of
// the inserts. The channel of the error is closed after that of the blocks.
func dayBlocks(ctx context.Context, end time.Time, rows int) (<-chan *sink.Block, <-chan error) {
	const blockRows = 300_000
	blocks, failed := make(chan *sink.Block), make(chan error, 1)
	batches := int(24*time.Hour/dayInterval) * dayAgents
	perBatch := rows/batches + 1
	batches = rows / perBatch
	fleet := flowgen.New(1, dayAgents, end.Add(-24*time.Hour), 24*time.Hour*dayAgents/time.Duration(batches))
	make1 := func() error {
		var encoder ebbwatch.Encoder
		var made ebbwatch.Batch
		decoder := batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: 48 * time.Hour})
		all := [3]*sink.Block{sink.NewBlock(), sink.NewBlock(), sink.NewBlock()} // one is filled, one waits, one is inserted
		for i, done := 0, 0; done < rows; {
			block := all[i%len(all)]
			i++
			block.Reset()
			for block.Rows() < blockRows && done < rows {
				fleet.Next(&made, perBatch)
				data, err := encoder.Encode(nil, &made)
				if err != nil {
					return err
				}
				b, err := decoder.Decode(ebbwatch.FlowSubject(made.Agent), data, made.Time)
				if err != nil {
					return err
				}
				done += made.Len()
				block.Append(b, made.Time)
			}
			select {
			case blocks <- block:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	go func() {
		err := make1()
		close(blocks)
		failed <- err
	}()
	return blocks, failed
}

// quiet waits until the server has no merge to do.
func quiet(ctx context.Context, conn clickhouse.Conn) error {
	fmt.Fprintln(os.Stderr, "bench: waiting for merges")
	for idle := 0; idle < 20; {
		var merges uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&merges); err != nil {
			return err
		}
		if idle++; merges > 0 {
			idle = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

func readDay(dir string) (day, error) {
	var d day
	text, err := os.ReadFile(filepath.Join(dir, dayFile))
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(text, &d)
}

// queries measures how long each question takes when the data are in the page
// cache: the median of nine times after one that warms up.
func queries(ctx context.Context, dir string, verbose bool) (map[string]float64, error) {
	d, err := readDay(dir)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "bench: no query_…_ms: run make bench-queries once, which builds 100 million flows")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{dayDatabase}, verbose)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	conn, err := owner(ch, dayDatabase).Open(dayDatabase)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	names := strings.NewReplacer("{end}", "toDateTime('"+d.End.Format(time.DateTime)+"', 'UTC')", "{host}", "'10.0.0.17'", "{server}", "'10.0.0.10'")
	values := map[string]float64{"query_flows": float64(d.Rows)}
	for _, q := range questions {
		var all []float64
		for i := range 10 {
			began := time.Now()
			n, err := rowsOf(ctx, conn, names.Replace(q.query))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			if n == 0 {
				return nil, fmt.Errorf("%s: the answer is empty", q.name)
			}
			if i > 0 {
				all = append(all, float64(time.Since(began).Microseconds())/1000)
			}
		}
		values["query_"+q.name+"_ms"] = median(all)
	}
	return values, nil
}

func rowsOf(ctx context.Context, conn clickhouse.Conn, query string) (int, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}
