package enrich

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch/collector/internal/mmdbtest"
)

func countries(code string) []byte {
	var w mmdbtest.Writer
	w.Add(netip.MustParsePrefix("192.0.2.0/24"), mmdbtest.Country(code))
	return w.Bytes()
}

// replace puts content in the place of a file as a tool does that takes care.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// bed is an enricher with its files and its log.
type bed struct {
	*Enricher
	mmdb, networks string
	log            bytes.Buffer
	registry       *prometheus.Registry
}

func newBed(t *testing.T) *bed {
	b := &bed{registry: prometheus.NewRegistry()}
	dir := t.TempDir()
	b.mmdb, b.networks = filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "networks.csv")
	cfg := DefaultConfig()
	cfg.MMDB, cfg.NetworksFile = []string{b.mmdb}, b.networks
	cfg.Networks = []Network{{Prefix: Prefix{netip.MustParsePrefix("192.0.0.0/16")}, Name: "lab", Tags: []string{"site=lab"}}}
	cfg.Agents = []Agent{{Agent: "web-1", Tags: []string{"role=web", "env=prod", "role=web"}}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	b.Enricher = New(cfg, slog.New(slog.NewTextHandler(&b.log, nil)), b.registry)
	return b
}

func (b *bed) want(t *testing.T, want Record) {
	t.Helper()
	table := b.Table()
	if got := table.Record(table.Lookup(netip.MustParseAddr("192.0.2.1"))); got != want {
		t.Errorf("the address is %+v, want %+v", got, want)
	}
}

func (b *bed) wantHealth(t *testing.T, words string) {
	t.Helper()
	err := b.Health()
	if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
		t.Errorf("health is %v, want %q", err, words)
	}
}

func TestFilesMayComeChangeBreakAndGo(t *testing.T) {
	b := newBed(t)
	b.Load(t.Context())
	b.want(t, Record{Network: "lab", Tags: "site=lab"})
	b.wantHealth(t, "country.mmdb: there is no such file")
	if got := b.Table().AgentTags("web-1"); got != "env=prod role=web" {
		t.Errorf("the agent's tags are %q", got)
	}
	b.Load(t.Context())
	if n := strings.Count(b.log.String(), "country.mmdb"); n != 1 {
		t.Errorf("what is missing is told %d times", n)
	}

	replace(t, b.mmdb, countries("DE"))
	replace(t, b.networks, []byte("192.0.2.0/24,rack,floor=2\n"))
	b.Load(t.Context())
	b.want(t, Record{Country: "DE", Network: "rack", Tags: "floor=2 site=lab"})
	b.wantHealth(t, "")
	before := b.Table()
	b.Load(t.Context())
	if b.Table() != before {
		t.Error("the table is made anew though no file has changed")
	}

	replace(t, b.mmdb, countries("FR"))
	b.Load(t.Context())
	b.want(t, Record{Country: "FR", Network: "rack", Tags: "floor=2 site=lab"})
	if before.Record(before.Lookup(netip.MustParseAddr("192.0.2.1"))).Country != "DE" {
		t.Error("a table that somebody holds has changed")
	}

	replace(t, b.mmdb, countries("US")[:100])
	replace(t, b.networks, []byte("192.0.2.0/24,rack\n192.0.2.0/99,rack\n"))
	b.Load(t.Context())
	b.want(t, Record{Country: "FR", Network: "rack", Tags: "floor=2 site=lab"})
	b.wantHealth(t, "country.mmdb: it is no MMDB file, or damaged")
	b.wantHealth(t, "networks.csv: line 2: ")
	if n := testutil.ToFloat64(b.metrics.failed.WithLabelValues(b.mmdb)); n != 2 {
		t.Errorf("failures are %v, want 2", n)
	}
	if !strings.Contains(b.log.String(), "level=ERROR msg=\"cannot use a file for enrichment\" until_then=\"what it said before stays\"") {
		t.Errorf("the log says\n%s", &b.log)
	}

	if err := os.Remove(b.mmdb); err != nil {
		t.Fatal(err)
	}
	replace(t, b.networks, []byte("# none\n"))
	b.Load(t.Context())
	b.want(t, Record{Country: "FR", Network: "lab", Tags: "site=lab"})
	b.wantHealth(t, "country.mmdb: there is no such file")

	replace(t, b.mmdb, countries("IT"))
	b.Load(t.Context())
	b.want(t, Record{Country: "IT", Network: "lab", Tags: "site=lab"})
	b.wantHealth(t, "")
	if problems, err := testutil.GatherAndLint(b.registry); err != nil || len(problems) > 0 {
		t.Errorf("the metrics have %v, %v", problems, err)
	}
}

// What cannot be opened is tried again, though nothing shows that it changed.
func TestAFileThatMayNotBeReadIsTakenOverWhenItMay(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	b := newBed(t)
	replace(t, b.mmdb, countries("DE"))
	if err := os.Chmod(b.mmdb, 0); err != nil {
		t.Fatal(err)
	}
	b.Load(t.Context())
	b.Load(t.Context())
	b.wantHealth(t, "permission denied")
	if err := os.Chmod(b.mmdb, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Load(t.Context())
	b.want(t, Record{Country: "DE", Network: "lab", Tags: "site=lab"})
}

func TestAFolderIsNoDatabase(t *testing.T) {
	b := newBed(t)
	if err := os.Mkdir(b.mmdb, 0o700); err != nil {
		t.Fatal(err)
	}
	b.Load(t.Context())
	b.wantHealth(t, "country.mmdb: it is no regular file")
}

func TestNothingConfiguredIsNothingKnown(t *testing.T) {
	e := New(DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	e.Load(t.Context())
	if e.Table() != nil || e.Health() != nil {
		t.Errorf("the table is %v and health %v", e.Table(), e.Health())
	}
	if (*Enricher)(nil).Table() != nil {
		t.Error("no enricher has a table")
	}
}

// Who looks up while files change gets the old answer or the new one, never none.
func TestNoLookupIsLostWhileFilesChange(t *testing.T) {
	b := newBed(t)
	b.cfg.Interval = time.Millisecond
	replace(t, b.mmdb, countries("AA"))
	b.Load(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { b.Run(ctx) })
	seen := make(chan string, 1<<16)
	for range 2 {
		all.Go(func() {
			for last := ""; ctx.Err() == nil; {
				table := b.Table()
				r := table.Record(table.Lookup(netip.MustParseAddr("192.0.2.1")))
				if r.Network != "lab" || r.Country == "" {
					t.Errorf("the address is %+v", r)
					return
				}
				if r.Country != last {
					last = r.Country
					select {
					case seen <- last:
					default:
					}
				}
			}
		})
	}
	for i := range 100 {
		replace(t, b.mmdb, countries(string([]byte{'A' + byte(i/26), 'A' + byte(i%26)})))
		time.Sleep(2 * time.Millisecond)
	}
	cancel()
	all.Wait()
	close(seen)
	if n := len(seen); n < 20 {
		t.Errorf("only %d changes were seen", n)
	}
}
