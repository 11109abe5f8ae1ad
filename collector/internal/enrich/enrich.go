// Package enrich tells what is known of addresses: country and autonomous system
// from MMDB files, the name of the network and tags from what people write. All
// of it is put together into one table in memory whenever a file changes, so that
// a lookup costs tens of nanoseconds, never fails and never waits.
package enrich

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Enricher holds the table and keeps it up to date. A file that is missing or
// damaged leaves what was known before, or nothing. Load and Run are for one
// goroutine; the other methods may be called concurrently.
type Enricher struct {
	cfg     Config
	log     *slog.Logger
	metrics metrics
	files   []*file
	table   atomic.Pointer[Table]
	trouble atomic.Pointer[error]
}

// file is a source on the disk.
type file struct {
	path    string
	read    func(ctx context.Context, data []byte) (source, error)
	seen    stamp // of what was read last, for good or not
	again   bool  // it could not be read at all, which may change and leave the stamp
	known   bool  // content is that of a file
	content source
	problem error // why content is not that of the file at hand
}

// source is what a file says: of addresses, in numbers of its records; or networks.
type source struct {
	atlas         atlas
	records       []Record
	organisations map[uint32]string
	networks      []Network
}

// stamp tells one state of a file from another.
type stamp struct {
	info fs.FileInfo // nil: there is none
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime())
}

type metrics struct {
	loaded *prometheus.GaugeVec
	failed *prometheus.CounterVec
	ranges prometheus.Gauge
}

// New returns an enricher that knows nothing before Load.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) *Enricher {
	e := &Enricher{cfg: cfg, log: log, metrics: metrics{
		loaded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ebbwatch_collector_enrich_loaded_timestamp_seconds",
			Help: "When the file was taken over last, in seconds since 1970; 0 if never. Databases of addresses grow old: fetch a new one each week or month.",
		}, []string{"file"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_collector_enrich_failures_total",
			Help: "Times that a file for enrichment was missing or damaged when it was to be read; what was known before stays. Read the log or /healthz, and put a good file there.",
		}, []string{"file"}),
		ranges: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ebbwatch_collector_enrich_ranges",
			Help: "Ranges of addresses that are told from each other by country, autonomous system, network or tags. If it falls, a file holds less than the one before.",
		}),
	}}
	reg.MustRegister(e.metrics.loaded, e.metrics.failed, e.metrics.ranges)
	for _, path := range cfg.MMDB {
		e.files = append(e.files, &file{path: path, read: readMMDB})
	}
	if cfg.NetworksFile != "" {
		e.files = append(e.files, &file{path: cfg.NetworksFile, read: func(_ context.Context, data []byte) (source, error) {
			networks, err := readNetworks(data)
			return source{networks: networks}, err
		}})
	}
	for _, f := range e.files {
		e.metrics.loaded.WithLabelValues(f.path)
		e.metrics.failed.WithLabelValues(f.path)
	}
	return e
}

// Table returns what is known now, nil if nothing is configured. The table does
// not change: ask again for each batch.
func (e *Enricher) Table() *Table {
	if e == nil {
		return nil
	}
	return e.table.Load()
}

// Run looks for changed files until ctx ends.
func (e *Enricher) Run(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.Load(ctx)
		}
	}
}

// Load reads the files that are not those of the last call, and makes the table
// anew if one says something new. Trouble is logged, counted and told by Health.
// When ctx ends it leaves everything as it was.
func (e *Enricher) Load(ctx context.Context) {
	if len(e.files) == 0 && len(e.cfg.Networks) == 0 && len(e.cfg.Agents) == 0 {
		return
	}
	changed := e.table.Load() == nil
	var trouble []error
	for _, f := range e.files {
		changed = e.look(ctx, f) || changed
		if f.problem != nil {
			trouble = append(trouble, fmt.Errorf("%s: %w", f.path, f.problem))
		}
	}
	all := errors.Join(trouble...)
	e.trouble.Store(&all)
	if !changed || ctx.Err() != nil {
		return
	}
	table := e.compile()
	e.metrics.ranges.Set(float64(table.Ranges()))
	e.table.Store(table)
}

// Health names the files that could not be used as they are now, nil if there is
// none.
func (e *Enricher) Health() error {
	if trouble := e.trouble.Load(); trouble != nil {
		return *trouble
	}
	return nil
}

// look reads a file, if it is not the one that was read last, and reports whether
// it says something new.
func (e *Enricher) look(ctx context.Context, f *file) bool {
	info, statErr := os.Stat(f.path)
	now := stamp{info}
	if statErr != nil {
		now = stamp{}
	}
	same := f.seen.same(now) && (f.known || f.problem != nil)
	if same && !f.again {
		return false
	}
	f.seen = now
	started := time.Now()
	data, err := f.load(statErr)
	f.again = err != nil
	var content source
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, loadLimit)
		content, err = f.read(limited, data)
		cancel()
	}
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		isNew := !same || f.problem == nil || f.problem.Error() != err.Error()
		f.problem = err
		if isNew {
			e.metrics.failed.WithLabelValues(f.path).Inc()
			kept := "its columns stay empty"
			if f.known {
				kept = "what it said before stays"
			}
			e.log.Error("cannot use a file for enrichment", "until_then", kept, "file", f.path, "error", err)
		}
		return false
	}
	f.content, f.known, f.problem = content, true, nil
	e.metrics.loaded.WithLabelValues(f.path).SetToCurrentTime()
	e.log.Info("took over a file for enrichment", "file", f.path, "records", max(len(content.records)-1, len(content.networks)), "took", time.Since(started).Round(time.Millisecond).String())
	return true
}

// load returns what stands in the file unless statErr tells that it cannot be read.
func (f *file) load(statErr error) ([]byte, error) {
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return nil, errors.New("there is no such file: put one there, and it is taken over; or leave it out of the section enrich")
	case statErr != nil:
		return nil, fmt.Errorf("look at it: %w", statErr)
	case !f.seen.info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case f.seen.info.Size() > maxFile:
		return nil, fmt.Errorf("it has %d bytes, more than %d", f.seen.info.Size(), maxFile)
	}
	// Not blocking: what was a file may be a FIFO by now, without a writer.
	r, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open it: %w", err)
	}
	defer r.Close()
	// A file that is mapped into memory would kill the process when it is cut.
	data, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	return data, nil
}

// compile puts all sources together.
func (e *Enricher) compile() *Table {
	networks := slices.Clone(e.cfg.Networks)
	for _, f := range e.files {
		networks = append(networks, f.content.networks...)
	}
	records, organisations := newNumbers[Record](), make(map[uint32]string)
	whole := networkAtlas(networks, records)
	for _, f := range e.files {
		whole = whole.overlay(f.content.atlas, joiner(records, f.content.records))
		for asn, name := range f.content.organisations {
			if organisations[asn] == "" {
				organisations[asn] = name
			}
		}
	}
	agents := make(map[string]string, len(e.cfg.Agents))
	for _, a := range e.cfg.Agents {
		agents[a.Agent] = joined(a.Tags)
	}
	return newTable(whole, records.values, organisations, agents)
}

// joiner returns the function that joins what is known already, a number of
// records, with a number of more.
func joiner(records *numbers[Record], more []Record) func(a, b uint32) uint32 {
	type pair struct{ a, b uint32 }
	known := make(map[pair]uint32)
	return func(a, b uint32) uint32 {
		if b == 0 {
			return a
		}
		number, ok := known[pair{a, b}]
		if !ok {
			number = records.number(records.values[a].or(more[b]))
			known[pair{a, b}] = number
		}
		return number
	}
}
