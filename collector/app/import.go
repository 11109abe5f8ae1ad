package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer/columns"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer/journal"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer/nfdump"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer/zeek"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// format is a kind of foreign files.
type format struct {
	name, short, long string
	open              func(ctx context.Context, paths []string) (importer.Source, error)
}

// formats lists what can be imported.
var formats = []format{
	{
		"zeek", "Import Zeek's logs: flows from conn.log, and what dns.log, ssl.log and http.log tell of them",
		"Folders are searched for logs, in Zeek's own format or as JSON lines, also compressed by gzip.\nName the folder and not conn.log alone, so that the other logs are found.",
		func(ctx context.Context, paths []string) (importer.Source, error) {
			return source(zeek.New(ctx, paths))
		},
	},
	{
		"csv", "Import CSV files whose header names columns of table flows",
		"start, src_ip and dst_ip must be there. Times are RFC 3339, or as ClickHouse writes them in UTC. Files may be compressed by gzip.",
		func(_ context.Context, paths []string) (importer.Source, error) { return source(columns.NewCSV(paths)) },
	},
	{
		"json", "Import JSON lines whose keys are columns of table flows, as `agent replay --json` and exports write them",
		"start, src_ip and dst_ip must be there. Files may be compressed by gzip.",
		func(_ context.Context, paths []string) (importer.Source, error) {
			return source(columns.NewJSON(paths))
		},
	},
	{
		"nfcapd", "Import files of nfcapd (NetFlow, IPFIX, sFlow) through the program nfdump",
		"In folders, files whose name begins with nfcapd. are read. The program nfdump must be installed (apt-get install nfdump).",
		func(_ context.Context, paths []string) (importer.Source, error) { return source(nfdump.New(paths)) },
	},
}

// source keeps a nil source a nil interface.
func source[S importer.Source](s S, err error) (importer.Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ImportCommand returns the command that imports foreign files. configure returns
// what the collector would be run with, of which the store counts.
func ImportCommand[C any](defaults func() C, configure func(C) (Config, error), flags func(*cobra.Command)) *cobra.Command {
	root := &cobra.Command{
		Use: "import", Short: "Store flows that other tools recorded",
		Long: "Store flows that other tools recorded, each once: the same command again adds nothing, and goes on where it was broken off.\n" +
			"ClickHouse must run (`ebbwatch up`). See docs/import.md.",
	}
	for _, f := range formats {
		cmd := importFormat(f, defaults, configure)
		if flags != nil {
			flags(cmd)
		}
		root.AddCommand(cmd)
	}
	return root
}

// importFlags are the flags of an import.
type importFlags struct {
	agent, shift, old, broken, rejects string
	again, json                        bool
}

func importFormat[C any](f format, defaults func() C, configure func(C) (Config, error)) *cobra.Command {
	var paths []string
	var flags importFlags
	var cmd *cobra.Command
	cmd = cli.Service[C]{
		Use: f.name + " PATH...", Short: f.short, Long: f.short + ".\n" + f.long, Default: defaults,
		Run: func(ctx context.Context, c C, log *slog.Logger) error {
			cfg, err := configure(c)
			if err != nil {
				return err
			}
			return runImport(ctx, f, paths, flags, cfg, log, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}.Command()
	cmd.Args = func(_ *cobra.Command, args []string) error {
		paths = args
		return nil
	}
	quiet(cmd) // the terminal is for progress and for problems
	set := cmd.Flags()
	set.StringVar(&flags.agent, "agent", "import", "`name` that the flows get in the column agent")
	set.StringVar(&flags.shift, "shift", "", "move all times so that the newest record is of this `time`: now, or RFC 3339")
	set.StringVar(&flags.old, "old", importer.OldRefuse, "records that are older than table flows keeps: `what` to do, refuse or skip; keep refuses, too, until store.retention_days is raised")
	set.BoolVar(&flags.again, "again", false, "import files again that were imported before; what is still stored of them is then there twice")
	set.StringVar(&flags.broken, "broken-block", "", "whether the block at which an import broke off long ago is stored: `answer` stored or missing")
	set.StringVar(&flags.rejects, "rejects", "", "write the lines that hold no record to this `file`")
	set.BoolVar(&flags.json, "json", false, "print the summary as JSON")
	return cmd
}

func (f importFlags) options(format string, now time.Time) (importer.Options, error) {
	o := importer.Options{Format: format, Agent: f.agent, Old: f.old, Again: f.again, BrokenBlock: f.broken, Patience: time.Minute}
	switch {
	case f.old != importer.OldRefuse && f.old != importer.OldSkip && f.old != importer.OldKeep:
		return o, fmt.Errorf("--old %q: want refuse, skip or keep", f.old)
	case f.broken != "" && f.broken != "stored" && f.broken != "missing":
		return o, fmt.Errorf("--broken-block %q: want stored or missing", f.broken)
	case f.shift == "now":
		o.MoveTo = now
	case f.shift != "":
		t, err := time.Parse(time.RFC3339, f.shift)
		if err != nil {
			return o, fmt.Errorf("--shift %q: want now, or a time like 2026-01-31T12:00:00Z", f.shift)
		}
		o.MoveTo = t
	}
	return o, nil
}

func runImport(ctx context.Context, f format, paths []string, flags importFlags, cfg Config, log *slog.Logger, out, terminal io.Writer) (err error) {
	if len(paths) == 0 {
		return fmt.Errorf("name the files or folders to import (see `import %s --help`)", f.name)
	}
	options, err := flags.options(f.name, time.Now())
	if err != nil {
		return err
	}
	src, err := f.open(ctx, paths)
	if ctx.Err() != nil {
		return importer.ErrInterrupted
	}
	if err != nil {
		return err
	}
	store := cfg.ClickHouse.Shard(0) // always the same of a cluster, so that a file is stored once
	j, err := journal.Open(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if flags.rejects != "" {
		file, err := openRejects(flags.rejects, paths)
		if err != nil {
			return fmt.Errorf("--rejects: %w", err)
		}
		defer file.Close()
		options.Rejects = file
	}
	registry := ops.NewRegistry()
	enricher := enrich.New(cfg.Enrich, log, registry)
	enricher.Load(ctx)
	writer := sink.NewWriter(cfg.Insert, store, log, registry)
	defer writer.Close()
	bar := newBar(terminal, time.Now)
	options.Progress = bar.show
	m := &importer.Importer{Options: options, Source: src, Store: writer, Journal: j, Enricher: enricher, BlockRows: importer.BlockRows, Now: time.Now}
	sum, err := m.Run(ctx)
	bar.clear()
	if flags.json {
		if jsonErr := json.NewEncoder(out).Encode(sum); jsonErr != nil {
			return errors.Join(err, fmt.Errorf("write the summary: %w", jsonErr))
		}
		return err
	}
	return errors.Join(tell(out, sum), err)
}

// openRejects opens the file for rejected lines at its end: an import that goes on
// adds to what it has written. It may not be one of those that are imported.
func openRejects(name string, paths []string) (*os.File, error) {
	if info, err := os.Stat(name); err == nil {
		found, err := importer.Walk(paths)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if other, err := os.Stat(f.Path); err == nil && os.SameFile(info, other) {
				return nil, fmt.Errorf("%s is among what is to be imported: choose another file", name)
			}
		}
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return file, nil
}

// tell prints a summary for people. Nothing is printed of an import that did not begin.
func tell(out io.Writer, s *importer.Summary) error {
	if len(s.Files) == 0 {
		return nil
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range s.Files {
		note := f.State
		if f.Imported != nil {
			note = "imported already, on " + f.Imported.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%d records\t%s\n", cli.Visible(f.File), f.Records, note)
	}
	for _, l := range s.LeftOut {
		fmt.Fprintf(t, "%s\t\tnot read: %s\n", cli.Visible(l.File), cli.Visible(l.Why))
	}
	_ = t.Flush() // into memory
	for _, reason := range slices.Sorted(maps.Keys(s.Rejected)) {
		fmt.Fprintf(&b, "rejected: %d (%s)\n", s.Rejected[reason], reason)
	}
	for _, e := range s.Examples {
		fmt.Fprintf(&b, "  %s:%d: %s: %s\n", cli.Visible(e.File), e.Line, e.Reason, cli.Visible(e.Detail))
	}
	if h := s.Hints; h != nil && h.Read+h.Rejected > 0 {
		fmt.Fprintf(&b, "hints of dns, ssl and http: %d read, %d records got one, %d are later ones of the same conversation, %d are of no record here, %d lines rejected\n",
			h.Read, h.Matched, h.Further, h.Unmatched, h.Rejected)
	}
	if s.WithoutPackets > 0 {
		fmt.Fprintf(&b, "%d rows count no packets (src_packets, dst_packets): they are in table flows, and not in flows_1m, which most views and detectors read\n", s.WithoutPackets)
	}
	if s.First != nil {
		fmt.Fprintf(&b, "times: %s to %s", s.First.Format(time.RFC3339), s.Last.Format(time.RFC3339))
		if s.ShiftSeconds != 0 {
			fmt.Fprintf(&b, ", moved by %s", time.Duration(s.ShiftSeconds*float64(time.Second)).Round(time.Second))
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%d rows of %d records stored as agent %s in %.1f s (%.0f rows/s)\n", s.Rows, s.Records, s.Agent, s.Seconds, float64(s.Rows)/max(s.Seconds, 0.001))
	_, err := io.WriteString(out, b.String())
	return err
}
