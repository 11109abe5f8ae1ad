package sink

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/mmdbtest"
)

// known is an Enricher whose table a test changes.
type known struct{ table *enrich.Table }

func (k *known) Table() *enrich.Table { return k.table }

// tableOf returns the table of countries and systems of 10.0.0.0/16 to 10.15.0.0/16
// and of names and tags of networks in them.
func tableOf(t testing.TB, r *rand.Rand) *enrich.Table {
	var w mmdbtest.Writer
	cfg := enrich.DefaultConfig()
	for i := range 16 {
		a := netip.AddrFrom4([4]byte{10, byte(i), 0, 0})
		record := mmdbtest.Country([]string{"DE", "FR", "US"}[r.IntN(3)])
		if r.IntN(3) > 0 {
			record = append(record, mmdbtest.ASN(uint32(64500+r.IntN(5)), "Example")...)
		}
		if r.IntN(4) > 0 {
			w.Add(netip.PrefixFrom(a, 16), record)
		}
		if r.IntN(2) == 0 {
			cfg.Networks = append(cfg.Networks, enrich.Network{Prefix: enrich.Prefix{Prefix: netip.PrefixFrom(a, 16+r.IntN(8))}, Name: []string{"", "a", "b"}[r.IntN(3)], Tags: []string{[]string{"x", "y"}[r.IntN(2)]}})
		}
	}
	cfg.Agents = []enrich.Agent{{Agent: "web-1", Tags: []string{"role=web"}}}
	path := filepath.Join(t.TempDir(), "all.mmdb")
	if err := os.WriteFile(path, w.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.MMDB = []string{path}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	e := enrich.New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	e.Load(t.Context())
	if err := e.Health(); err != nil {
		t.Fatal(err)
	}
	return e.Table()
}

// row is what one row of a block says of its addresses.
type row struct {
	origins [2]enrich.Record
	agent   string
}

// rowsOf reads the columns that an insert of the block would have.
func rowsOf(t *testing.T, b *Block) []row {
	rows := make([]row, b.Rows())
	for _, c := range b.tables()[0].input {
		if c.Data.Rows() != len(rows) {
			t.Fatalf("column %s has %d rows, want %d", c.Name, c.Data.Rows(), len(rows))
		}
		var wire proto.Buffer
		if state, ok := c.Data.(proto.StateEncoder); ok {
			state.EncodeState(&wire)
		}
		c.Data.EncodeColumn(&wire)
		reader := proto.NewReader(bytes.NewReader(wire.Buf))
		names := func(set func(r *row, name string)) {
			column := new(proto.ColStr).LowCardinality()
			if err := errors.Join(column.DecodeState(reader), column.DecodeColumn(reader, len(rows))); err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				set(&rows[i], column.Row(i))
			}
		}
		for side, prefix := range []string{"src_", "dst_"} {
			switch c.Name {
			case prefix + "country":
				names(func(r *row, name string) { r.origins[side].Country = name })
			case prefix + "network":
				names(func(r *row, name string) { r.origins[side].Network = name })
			case prefix + "tags":
				names(func(r *row, name string) { r.origins[side].Tags = name })
			case prefix + "asn":
				var column proto.ColUInt32
				if err := column.DecodeColumn(reader, len(rows)); err != nil {
					t.Fatal(err)
				}
				for i := range rows {
					rows[i].origins[side].ASN = column[i]
				}
			}
		}
		if c.Name == "agent_tags" {
			names(func(r *row, name string) { r.agent = name })
		}
	}
	return rows
}

// Blocks get batches under tables that come, change and go: each row says what the
// table of its batch does.
func TestEachRowSaysWhatWasKnownOfItsAddresses(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	tables := []*enrich.Table{nil, tableOf(t, r), tableOf(t, r), nil, tableOf(t, r)}
	block, k := NewBlock(), &known{}
	block.Enrich(k)
	filled := 0
	for range 50 {
		block.Reset()
		var want []row
		for range 1 + r.IntN(6) {
			k.table = tables[r.IntN(len(tables))]
			in := &ebbwatch.Batch{}
			in.Agent = []string{"web-1", "db-1"}[r.IntN(2)]
			for range 1 + r.IntN(40) {
				f := ebbwatch.Flow{Start: time.Now(), End: time.Now(), Sampling: 1, SrcPackets: 1}
				var w row
				for side, to := range []*netip.Addr{&f.Src, &f.Dst} {
					*to = netip.AddrFrom4([4]byte{byte(10 + r.IntN(2)), byte(r.IntN(20)), byte(r.IntN(3)), 1})
					if r.IntN(10) == 0 {
						*to = netip.MustParseAddr("2001:db8::1")
					}
					if k.table != nil {
						w.origins[side] = k.table.Record(k.table.Lookup(*to))
					}
				}
				if k.table != nil && in.Agent == "web-1" {
					w.agent = "role=web"
				}
				if w.origins[0].Tags != "" {
					filled++
				}
				in.Append(&f)
				want = append(want, w)
			}
			block.Append(in, time.Now())
		}
		got := rowsOf(t, block)
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("row %d says %+v, want %+v", i, got[i], want[i])
			}
		}
	}
	if filled < 100 {
		t.Errorf("only %d rows have tags: the test shows little", filled)
	}
}

func TestABlockOfWhichNothingIsKnownHasNoColumnsForIt(t *testing.T) {
	plain, enriched := NewBlock(), NewBlock()
	k := &known{tableOf(t, rand.New(rand.NewPCG(1, 1)))}
	enriched.Enrich(k)
	in := &ebbwatch.Batch{}
	in.Agent = "db-1"
	in.Append(&ebbwatch.Flow{Start: time.Now(), End: time.Now(), Sampling: 1, SrcPackets: 1, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("2001:db8::1")})
	for _, b := range []*Block{plain, enriched} {
		b.Append(in, time.Now())
	}
	if a, b := len(plain.tables()[0].input), len(enriched.tables()[0].input); a != b {
		t.Errorf("the insert has %d columns, want %d", b, a)
	}
}

// The name of a system is told once by each block, and again when names may have changed.
func TestAnAutonomousSystemIsNamedOnce(t *testing.T) {
	block, k := NewBlock(), &known{tableOf(t, rand.New(rand.NewPCG(2, 2)))}
	block.Enrich(k)
	in := &ebbwatch.Batch{}
	for i := range 16 {
		in.Append(&ebbwatch.Flow{Start: time.Now(), End: time.Now(), Sampling: 1, SrcPackets: 1, Src: netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), Dst: netip.MustParseAddr("2001:db8::1")})
	}
	block.Append(in, time.Now())
	block.Append(in, time.Now())
	systems := block.origins.systems.rows()
	if systems < 2 || systems > 5 {
		t.Fatalf("%d systems are named, want each of five at most once", systems)
	}
	block.Reset()
	block.Append(in, time.Now())
	if n := block.origins.systems.rows(); n != 0 {
		t.Errorf("%d systems are named again", n)
	}
	k.table = tableOf(t, rand.New(rand.NewPCG(2, 2)))
	block.Append(in, time.Now())
	if n := block.origins.systems.rows(); n != systems {
		t.Errorf("%d systems are named after a change, want %d", n, systems)
	}
}
