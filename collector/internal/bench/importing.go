package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

const zeekHead = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n" +
	"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents\n"

// imports measures the import of a conn.log of Zeek of the given size, plain and
// compressed: rows a second of the whole command, which reads the file twice, and
// the most memory that its process takes.
func imports(ctx context.Context, size int64, verbose bool) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const database = "ebbwatch_import"
	ch, err := proctest.NewClickHouse(ctx, filepath.Join(dir, "clickhouse"), []string{database}, verbose)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	defer ch.Stop()
	conn, err := migrated(ctx, ch, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	values := make(map[string]float64)
	for name, file := range map[string]string{"import": "conn.log", "import_gz": "conn.log.gz"} {
		path := filepath.Join(dir, file)
		lines, err := writeZeek(path, size)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, os.Getenv("EBBWATCH_BIN"), "collector", "import", "zeek", path, "--agent", name, "--json")
		cmd.Env = append(os.Environ(), "EBBWATCH_CLICKHOUSE_ADDRESS="+ch.Addr, "EBBWATCH_CLICKHOUSE_DATABASE="+database, "EBBWATCH_CLICKHOUSE_USER="+proctest.User, "EBBWATCH_CLICKHOUSE_PASSWORD="+ch.Password)
		if verbose {
			cmd.Stderr = os.Stderr
		}
		var out bytes.Buffer
		cmd.Stdout = &out
		peak, err := proctest.RunAndWatch(cmd)
		if err != nil {
			return nil, fmt.Errorf("import %s: %w: %s", file, err, &out)
		}
		var sum importer.Summary
		if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
			return nil, fmt.Errorf("import %s: %w", file, err)
		}
		if sum.Rows != lines {
			return nil, fmt.Errorf("import %s: %d rows of %d lines, %v", file, sum.Rows, lines, sum.Rejected)
		}
		values[name+"_rows_per_s"] = float64(sum.Rows) / sum.Seconds
		values[name+"_rss_bytes"] = peak
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// writeZeek writes a conn.log of at least size bytes, compressed if its name says
// so, and returns the number of connections in it: those of a seeded fleet.
func writeZeek(path string, size int64) (lines uint64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var to io.WriteCloser = f
	if filepath.Ext(path) == ".gz" {
		to = gzip.NewWriter(f)
	}
	const agents, interval = 1000, 5 * time.Second
	fleet := flowgen.New(1, agents, time.Now().Add(-2*time.Hour), interval)
	w := bufio.NewWriterSize(to, 1<<20)
	written, err := w.WriteString(zeekHead)
	if err != nil {
		return 0, err
	}
	var b ebbwatch.Batch
	for total := int64(written); total < size; {
		fleet.Next(&b, flowsPerBatch)
		for i := range b.Start {
			f := b.Flow(i)
			proto := map[uint8]string{ebbwatch.ProtoTCP: "tcp", ebbwatch.ProtoUDP: "udp"}[f.Proto]
			if proto == "" {
				proto = "unknown_transport"
			}
			n, err := fmt.Fprintf(w, "%d.%06d\tC%016x\t%s\t%d\t%s\t%d\t%s\t-\t%.6f\t%d\t%d\t%s\tT\tF\t0\tShADadFf\t%d\t%d\t%d\t%d\t-\n", f.Start.Unix(), f.Start.Nanosecond()/1000, lines,
				f.Src, f.SrcPort, f.Dst, f.DstPort, proto, f.End.Sub(f.Start).Seconds(), f.SrcBytes, f.DstBytes, f.ConnState, f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes)
			if err != nil {
				return 0, err
			}
			total += int64(n)
			lines++
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	if to != f {
		return lines, to.Close()
	}
	return lines, nil
}
