package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
	"github.com/ebbwatch/ebbwatch/collector/internal/mmdbtest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// prefixes is how many networks the databases have that are looked into.
const prefixes = 100_000

// enrichment measures looking up addresses in two databases (countries and
// autonomous systems) of 100,000 networks each, of which one in a hundred has a
// name: of addresses at random over all networks, so that little of the
// table is in the processor's cache, and of 1,000 addresses again and again.
// Medians of 15 rounds, in processor time.
func enrichment(ctx context.Context) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "ebbwatch-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cfg, networks, err := databases(dir)
	if err != nil {
		return nil, err
	}
	e := enrich.New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	started := cpuTime()
	e.Load(ctx)
	values := map[string]float64{"enrich_load_ms": float64((cpuTime() - started).Microseconds()) / 1000}
	if err := e.Health(); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(2, 2))
	byFamily := make(map[bool][]netip.Addr)
	for range 200_000 {
		a := within(r, networks[r.IntN(len(networks))])
		byFamily[a.Is4()] = append(byFamily[a.Is4()], a)
	}
	table := e.Table()
	values["enrich_lookup_ns"] = lookups(table, byFamily[true])
	values["enrich_lookup_ipv6_ns"] = lookups(table, byFamily[false])
	values["enrich_lookup_again_ns"] = lookups(table, byFamily[true][:1000])
	if values["enrich_append_ns_per_flow"], values["enrich_encode_ns_per_flow"], err = appends(e); err != nil {
		return nil, err
	}
	runtime.KeepAlive(table)
	return values, nil
}

// databases writes the files, and returns their networks too: all of IPv4 from
// 1.0.0.0 to 223.255.255.255 in pieces of /16 to /24, and of IPv6 what is left up
// to the number. Their systems are of very different sizes.
func databases(dir string) (enrich.Config, []netip.Prefix, error) {
	r := rand.New(rand.NewPCG(1, 1))
	var countries, systems mmdbtest.Writer
	cfg := enrich.DefaultConfig()
	networks := make([]netip.Prefix, 0, prefixes)
	add := func(p netip.Prefix) {
		networks = append(networks, p)
		countries.Add(p, mmdbtest.Country(string([]byte{byte('A' + r.IntN(26)), byte('A' + r.IntN(8))})))
		system := uint32(1 + r.ExpFloat64()*5000)
		systems.Add(p, mmdbtest.ASN(system, fmt.Sprintf("Organisation %d", system)))
		if len(networks)%100 == 0 {
			cfg.Networks = append(cfg.Networks, enrich.Network{Prefix: enrich.Prefix{Prefix: p}, Name: fmt.Sprint("net-", len(networks)), Tags: []string{"site=berlin"}})
		}
	}
	var split func(a uint32, bits int)
	split = func(a uint32, bits int) {
		if bits < 24 && r.IntN(4) == 0 {
			split(a, bits+1)
			split(a|1<<(31-bits), bits+1)
			return
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], a)
		add(netip.PrefixFrom(netip.AddrFrom4(b), bits))
	}
	for i := range uint32(223 << 8) {
		split(1<<24+i<<16, 16)
	}
	seen := make(map[netip.Prefix]bool)
	for len(networks) < prefixes {
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte{[]byte{0x20, 0x24, 0x26, 0x28, 0x2a}[r.IntN(5)], byte(r.IntN(16)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}), 40)
		if !seen[p] {
			seen[p] = true
			add(p)
		}
	}
	for name, data := range map[string][]byte{"country.mmdb": countries.Bytes(), "asn.mmdb": systems.Bytes()} {
		path := filepath.Join(dir, name)
		cfg.MMDB = append(cfg.MMDB, path)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return cfg, nil, err
		}
	}
	return cfg, networks, cfg.Validate()
}

// within returns an address of a network at random.
func within(r *rand.Rand, p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= byte(r.IntN(2)) << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// sum keeps what is measured from being left out.
var sum atomic.Uint32

func lookups(table *enrich.Table, addresses []netip.Addr) float64 {
	var rounds []float64
	for range 15 {
		n := 0
		started := cpuTime()
		for n < 2_000_000 {
			var all uint32
			for _, a := range addresses {
				all += table.Lookup(a)
			}
			sum.Store(all)
			n += len(addresses)
		}
		rounds = append(rounds, float64((cpuTime()-started).Nanoseconds())/float64(n))
	}
	return median(rounds)
}

// appends returns by how much enrichment makes the way of a fleet's batches into a
// block, and from there to the bytes of an insert, longer for each flow. Rounds
// without and with it alternate.
func appends(e *enrich.Enricher) (decode, encode float64, err error) {
	all, err := messages(200_000, 1000, (*flowgen.Fleet).Next)
	if err != nil {
		return 0, 0, err
	}
	var ways [2]way
	for i := range ways {
		ways[i] = way{decoder: batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: time.Hour}), block: sink.NewBlock()}
	}
	ways[1].block.Enrich(e)
	for range 16 {
		for i := range ways {
			if err := ways[i].round(all); err != nil {
				return 0, 0, err
			}
		}
	}
	return median(ways[1].decodes[1:]) - median(ways[0].decodes[1:]), median(ways[1].encodes[1:]) - median(ways[0].encodes[1:]), nil
}
