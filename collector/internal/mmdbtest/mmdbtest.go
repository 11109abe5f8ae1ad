// Package mmdbtest writes MMDB files for tests and measurements, after the
// specification of version 2.0 (https://maxmind.github.io/MaxMind-DB/).
package mmdbtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Map is a record or a part of one, in the order in which it is written.
type Map []Field

// Field is a key with a string, uint32 or Map.
type Field struct {
	Key   string
	Value any
}

// Country returns a record as GeoLite2 Country and DB-IP Lite have it.
func Country(code string) Map { return Map{{"country", Map{{"iso_code", code}}}} }

// ASN returns a record as GeoLite2 ASN and DB-IP Lite have it.
func ASN(number uint32, organisation string) Map {
	return Map{{"autonomous_system_number", number}, {"autonomous_system_organization", organisation}}
}

// Writer holds a database. The zero value is an empty one of both families.
type Writer struct {
	nodes   [][2]uint32 // 0: nothing, node number, or 1<<31 plus an offset in data
	data    []byte
	offsets map[string]uint32 // of records, by their bytes
}

const isData = 1 << 31

// Add sets the record of a network, which must not lie in another one.
func (w *Writer) Add(network netip.Prefix, record Map) {
	if w.nodes == nil {
		w.nodes, w.offsets = make([][2]uint32, 1), make(map[string]uint32)
	}
	encoded := encode(nil, record)
	offset, ok := w.offsets[string(encoded)]
	if !ok {
		offset = uint32(len(w.data))
		w.offsets[string(encoded)] = offset
		w.data = append(w.data, encoded...)
	}
	bits, address := network.Bits(), network.Addr().As16()
	if network.Addr().Is4() { // at ::/96
		address[10], address[11] = 0, 0
		bits += 96
	}
	node := uint32(0)
	for i := range bits {
		side := address[i/8] >> (7 - i%8) & 1
		next := w.nodes[node][side]
		switch {
		case next >= isData:
			panic(fmt.Sprintf("%s lies in another network", network))
		case i == bits-1:
			w.nodes[node][side] = isData | offset
		case next == 0:
			next = uint32(len(w.nodes))
			w.nodes[node][side] = next
			w.nodes = append(w.nodes, [2]uint32{})
		}
		node = next
	}
}

// Bytes returns the file.
func (w *Writer) Bytes() []byte {
	count := uint32(len(w.nodes))
	var out []byte
	for _, n := range w.nodes {
		for _, record := range n {
			switch {
			case record == 0:
				record = count
			case record >= isData:
				record = record&^isData + count + 16
			}
			out = binary.BigEndian.AppendUint32(out, record)
		}
	}
	out = append(out, make([]byte, 16)...)
	out = append(out, w.data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	return encode(out, Map{
		{"node_count", count}, {"record_size", uint16(32)}, {"ip_version", uint16(6)}, {"database_type", "Test"}, {"languages", []string{"en"}},
		{"binary_format_major_version", uint16(2)}, {"binary_format_minor_version", uint16(0)}, {"build_epoch", uint64(1_700_000_000)}, {"description", Map{{"en", "test"}}},
	})
}

// The types of the format.
const (
	typeString = 2
	typeUint16 = 5
	typeUint32 = 6
	typeMap    = 7
	typeUint64 = 9
	typeArray  = 11
)

func encode(out []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return append(control(out, typeString, len(v)), v...)
	case uint16:
		return binary.BigEndian.AppendUint16(control(out, typeUint16, 2), v)
	case uint32:
		return binary.BigEndian.AppendUint32(control(out, typeUint32, 4), v)
	case uint64:
		return binary.BigEndian.AppendUint64(control(out, typeUint64, 8), v)
	case []string:
		out = control(out, typeArray, len(v))
		for _, s := range v {
			out = encode(out, s)
		}
		return out
	case Map:
		out = control(out, typeMap, len(v))
		for _, f := range v {
			out = encode(encode(out, f.Key), f.Value)
		}
		return out
	}
	panic(fmt.Sprintf("no type for %T", value))
}

// control appends the byte that says type and size, and what follows of both.
func control(out []byte, kind, size int) []byte {
	first, more := byte(size), []byte(nil)
	if size >= 29 { // up to 284 is enough here
		first, more = 29, []byte{byte(size - 29)}
	}
	if size > 284 {
		panic("too long")
	}
	if kind > 7 {
		out = append(out, first, byte(kind-7))
	} else {
		out = append(out, first|byte(kind)<<5)
	}
	return append(out, more...)
}
