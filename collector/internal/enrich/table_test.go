package enrich

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// randomAddress returns an address of few networks, so that prefixes meet, and
// often one at an edge.
func randomAddress(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		v := [4]byte{byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256)), byte(r.IntN(256))}
		if r.IntN(8) == 0 {
			v = [4]byte{255, 255, 255, byte(r.IntN(2) * 255)}
		}
		return netip.AddrFrom4(v)
	}
	var v [16]byte
	switch r.IntN(5) {
	case 0: // around the space of IPv4, which is not the same as this
		v[10], v[11] = 0xff, 0xff
		v[15] = byte(r.IntN(256))
	case 1: // many ranges in one /64
		copy(v[:], []byte{0x20, 0x01, 0x0d, 0xb8})
		binary.BigEndian.PutUint16(v[14:], uint16(r.IntN(1<<16)))
	case 2: // above what the index holds
		v[0], v[15] = 0xfd, byte(r.IntN(256))
	case 3: // the ends of what it holds, and of the space
		v = [16]byte(slices.Repeat([]byte{[]byte{0x1f, 0x20, 0x3f, 0x40, 0xff}[r.IntN(5)]}, 16))
		copy(v[1:], slices.Repeat([]byte{byte(r.IntN(2) * 255)}, 15))
	default:
		v[0], v[1], v[2], v[3] = 0x2a, byte(r.IntN(16)), byte(r.IntN(4)), byte(r.IntN(256))
	}
	return netip.AddrFrom16(v)
}

func randomPrefix(r *rand.Rand) netip.Prefix {
	a := randomAddress(r).Unmap()
	return netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
}

// The table says of each address what a walk through all prefixes does.
func TestALookupFindsTheLongestPrefixOfEachKind(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		var networks []Network
		seen := make(map[netip.Prefix]bool)
		for range r.IntN(300) {
			p := randomPrefix(r)
			if seen[p] {
				continue
			}
			seen[p] = true
			n := Network{Prefix: Prefix{p}, Name: []string{"", "a", "b", "c"}[r.IntN(4)]}
			if n.Name == "" || r.IntN(3) == 0 {
				n.Tags = []string{[]string{"x", "y", "z"}[r.IntN(3)], "w"}
			}
			networks = append(networks, n)
		}
		records := newNumbers[Record]()
		table := newTable(networkAtlas(networks, records), records.values, nil, nil)
		probes := make([]netip.Addr, 0, 3000)
		for range 1000 {
			probes = append(probes, randomAddress(r).Unmap())
		}
		for p := range seen { // the edges
			probes = append(probes, p.Addr(), p.Addr().Prev(), lastOf(p), lastOf(p).Next())
		}
		for _, a := range probes {
			if !a.IsValid() {
				continue
			}
			var want Record
			longest := -1
			var tags []string
			for _, n := range networks {
				if !n.Prefix.Contains(a) {
					continue
				}
				tags = append(tags, n.Tags...)
				if n.Name != "" && n.Prefix.Bits() > longest {
					longest, want.Network = n.Prefix.Bits(), n.Name
				}
			}
			slices.Sort(tags)
			want.Tags = strings.Join(slices.Compact(tags), " ")
			if got := table.Record(table.Lookup(a)); got != want {
				t.Fatalf("seed %d: %s is %+v, want %+v", seed, a, got, want)
			}
		}
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestAnIPv4AddressIsTheSameInBothForms(t *testing.T) {
	records := newNumbers[Record]()
	table := newTable(networkAtlas([]Network{{Prefix: Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Name: "office"}, {Prefix: Prefix{netip.MustParsePrefix("::/0")}, Name: "six"}}, records), records.values, nil, nil)
	for address, want := range map[string]string{"10.1.2.3": "office", "::ffff:10.1.2.3": "office", "11.1.2.3": "", "::ffff:11.1.2.3": "", "2001:db8::1": "six", "::": "six"} {
		if got := table.Record(table.Lookup(netip.MustParseAddr(address))).Network; got != want {
			t.Errorf("%s is in network %q, want %q", address, got, want)
		}
	}
}

// A lookup needs no memory, whatever it meets.
func TestALookupAllocatesNothing(t *testing.T) {
	records := newNumbers[Record]()
	table := newTable(networkAtlas([]Network{{Prefix: Prefix{netip.MustParsePrefix("2001:db8::7/128")}, Tags: []string{"a"}}}, records), records.values, nil, nil)
	for _, address := range []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::7")} {
		if n := testing.AllocsPerRun(100, func() { table.Lookup(address) }); n != 0 {
			t.Errorf("looking up %s allocates %v times", address, n)
		}
	}
}
