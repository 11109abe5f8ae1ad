package sink

import "github.com/ClickHouse/ch-go/proto"

// dictionary is a LowCardinality(String) column that is filled by the key of a
// value instead of the value, where a batch has few names.
type dictionary struct {
	proto.ColLowCardinalityRaw
	values proto.ColStr
	keys   map[string]uint32
}

func (d *dictionary) init() {
	d.keys = make(map[string]uint32)
	d.Index, d.Key = &d.values, proto.KeyUInt32
}

// key returns the key of s.
func (d *dictionary) key(s string) uint32 {
	if k, ok := d.keys[s]; ok {
		return k
	}
	k := uint32(len(d.keys))
	d.keys[s] = k
	d.values.Append(s)
	return k
}

// bytes returns what the values take: the text in the column, and an entry with
// another copy in the map.
func (d *dictionary) bytes() int {
	const entry = 64
	return 2*len(d.values.Buf) + entry*len(d.keys)
}

// repeat appends a key n times.
func (d *dictionary) repeat(key uint32, n int) {
	at := len(d.Keys32)
	d.Keys32 = extend(d.Keys32, n)
	for i := range d.Keys32[at:] {
		d.Keys32[at+i] = key
	}
}

// Reset empties the column. Its map is dropped when it has grown large, so that
// a flood of names does not stay in memory.
func (d *dictionary) Reset() {
	d.values.Reset()
	d.Keys32 = d.Keys32[:0]
	if len(d.keys) > 1<<16 {
		d.keys = make(map[string]uint32)
	}
	clear(d.keys)
}
