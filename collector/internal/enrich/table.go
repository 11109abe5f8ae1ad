package enrich

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Record is what is known of the addresses of a range.
type Record struct {
	Country string // ISO 3166-1 alpha-2
	ASN     uint32
	Network string // name of the longest prefix that has one
	Tags    string // of all prefixes, sorted and separated by spaces
}

// or returns r with what it lacks taken from other.
func (r Record) or(other Record) Record {
	return Record{
		Country: cmp.Or(r.Country, other.Country), ASN: cmp.Or(r.ASN, other.ASN),
		Network: cmp.Or(r.Network, other.Network), Tags: cmp.Or(r.Tags, other.Tags),
	}
}

// Table holds what all sources say together. It never changes: a reload makes
// another. Its methods may be called concurrently.
//
// The space of addresses is cut wherever some source says something else, so that
// a lookup is one binary search, below an index, whatever the number of sources.
type Table struct {
	records []Record // number 0 is the empty one
	v4      struct {
		starts []uint32 // first addresses of the ranges, ascending from 0.0.0.0
		values []uint32 // numbers of records
		index  []uint32 // range of the first address, by its upper 16 bits
	}
	v6 struct {
		hi, lo []uint64 // halves of the first addresses
		values []uint32
		index  []uint32 // of 2000::/3, by its next 17 bits; what is outside has few ranges
	}
	organisations map[uint32]string
	agents        map[string]string
}

// Lookup returns the number of the record of an address, 0 if nothing is known.
func (t *Table) Lookup(a netip.Addr) uint32 {
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		v := binary.BigEndian.Uint32(b[:])
		return t.v4.values[search(t.v4.starts, t.v4.index[v>>16], t.v4.index[v>>16+1]+1, v)]
	}
	v := addressOf(a)
	low, high := t.around(v.hi)
	i := search(t.v6.hi, low, high, v.hi)
	if t.v6.hi[i] == v.hi && t.v6.lo[i] > v.lo { // ranges within a /64, which are rare
		n, _ := slices.BinarySearchFunc(t.v6.hi[low:i+1], v, func(hi uint64, v address) int { return cmp.Compare(hi, v.hi) })
		first := low + uint32(n)
		if t.v6.lo[first] > v.lo {
			return t.v6.values[first-1]
		}
		return t.v6.values[search(t.v6.lo, first, i, v.lo)]
	}
	return t.v6.values[i]
}

// search returns the last of the sorted values from low to high-1 that is not
// above v; that at low is not. What it does next never hangs on a guess of the
// processor, which would be wrong every other time.
func search[T uint32 | uint64](sorted []T, low, high uint32, v T) uint32 {
	for n := high - low; n > 1; {
		half := n / 2
		next := low + half
		if sorted[next] > v {
			next = low
		}
		low, n = next, n-half
	}
	return low
}

// The indexed part of the IPv6 space: what is given out (RFC 4291, 2.4).
const (
	global     = 1  // 2000::/3, as the upper 3 bits say
	globalBits = 17 // that the index holds
	indexShift = 44 // 64 bits less 3 and globalBits
	indexSize  = 1 << globalBits
)

// around returns the ranges among which that of an address is: low to high-1.
func (t *Table) around(hi uint64) (low, high uint32) {
	switch part := hi >> 61; {
	case part < global:
		return 0, t.v6.index[0] + 1
	case part > global:
		return t.v6.index[indexSize], uint32(len(t.v6.hi))
	}
	i := hi >> indexShift & (indexSize - 1)
	return t.v6.index[i], t.v6.index[i+1] + 1
}

// Record returns the record with a number that Lookup returned.
func (t *Table) Record(number uint32) Record { return t.records[number] }

// Records returns the number of records.
func (t *Table) Records() int { return len(t.records) }

// Organisation returns the name of an autonomous system, "" if it is not known.
func (t *Table) Organisation(asn uint32) string { return t.organisations[asn] }

// AgentTags returns the tags of an agent, separated by spaces.
func (t *Table) AgentTags(agent string) string { return t.agents[agent] }

// Ranges returns the number of ranges.
func (t *Table) Ranges() int { return len(t.v4.starts) + len(t.v6.hi) }

// newTable returns the table of a map, whose values are numbers of records.
func newTable(m atlas, records []Record, organisations map[uint32]string, agents map[string]string) *Table {
	t := &Table{records: records, organisations: organisations, agents: agents}
	for _, p := range m.v4 {
		if p.from.lo>>32 == 0 { // else it is the end of the space
			t.v4.starts, t.v4.values = append(t.v4.starts, uint32(p.from.lo)), append(t.v4.values, p.value)
		}
	}
	for _, p := range m.v6 {
		t.v6.hi, t.v6.lo, t.v6.values = append(t.v6.hi, p.from.hi), append(t.v6.lo, p.from.lo), append(t.v6.values, p.value)
	}
	end := uint32(len(t.v4.starts))
	for i := range uint32(1 << 16) {
		t.v4.index = append(t.v4.index, search(t.v4.starts, 0, end, i<<16))
	}
	t.v4.index = append(t.v4.index, end-1)
	for i := range uint64(indexSize + 1) { // the last that is surely not after what the entry stands for
		t.v6.index = append(t.v6.index, search(t.v6.hi, 0, uint32(len(t.v6.hi)), global<<61+i<<indexShift-1))
	}
	return t
}
