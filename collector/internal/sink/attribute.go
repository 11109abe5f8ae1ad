package sink

import (
	"slices"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// Types of the attributes' columns that have a wire form of their own.
var attributeTypes = map[ebbwatch.Attribute]proto.ColumnType{
	ebbwatch.AttrInitiator: "Enum8('unknown' = 0, 'syn' = 1, 'socket' = 2, 'first' = 3)",
	ebbwatch.AttrConnState: "Enum8('OTH' = 0, 'S0' = 1, 'S1' = 2, 'SF' = 3, 'REJ' = 4, 'S2' = 5, 'S3' = 6, 'RSTO' = 7, 'RSTR' = 8, 'RSTOS0' = 9, 'RSTRH' = 10, 'SH' = 11, 'SHR' = 12)",
	ebbwatch.AttrTunnel:    "Enum8('' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4)",
	ebbwatch.AttrApp:       "Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4)",
	ebbwatch.AttrFinal:     typeBool,
}

// attributes are the columns of flows that a batch holds by group. One that all
// rows of the block leave at the default takes no memory and stands in no insert.
type attributes struct {
	columns [ebbwatch.Attributes]attribute
	entries []uint32 // the values of a batch's entries, as they are repeated
	narrow  scratch
	names   []uint32
}

// attribute is one column: exactly one of its pointers is set.
type attribute struct {
	text     *nameColumn
	u32      *proto.ColUInt32
	u16      *proto.ColUInt16
	u8       *proto.ColUInt8
	input    proto.InputColumn
	isUsed   bool   // by a row of this block
	isAlways bool   // in every insert, because the table has another default
	add      uint32 // what the column holds above what the batch does
}

func (a *attributes) init(names *interner) {
	for i := range a.columns {
		c, attr := &a.columns[i], ebbwatch.Attribute(i)
		var data proto.ColInput
		switch {
		case attr.Text():
			c.text = new(nameColumn)
			c.text.init(names)
			data = c.text
		case attr == ebbwatch.AttrProto, attr == ebbwatch.AttrICMPType, attr == ebbwatch.AttrICMPCode, attributeTypes[attr] != "":
			c.u8 = new(proto.ColUInt8)
			data = c.u8
			if t := attributeTypes[attr]; t != "" {
				data = proto.Alias(c.u8, t)
			}
		case attr == ebbwatch.AttrSrcFlags, attr == ebbwatch.AttrDstFlags, attr == ebbwatch.AttrVLAN, attr == ebbwatch.AttrDNSAnswers, attr == ebbwatch.AttrHTTPStatus:
			c.u16 = new(proto.ColUInt16)
			data = c.u16
		default:
			c.u32 = new(proto.ColUInt32)
			data = c.u32
		}
		if attr == ebbwatch.AttrSampling {
			c.add, c.isAlways, c.isUsed = 1, true, true
		}
		c.input = proto.InputColumn{Name: attr.Name(), Data: data}
	}
}

// append adds what the records of a batch have; the block held rows before.
func (a *attributes) append(in *ebbwatch.Batch, rows int) {
	for i := range a.columns {
		c, attr := &a.columns[i], ebbwatch.Attribute(i)
		values, index := in.Attributes[attr], in.Index[attr.Group()]
		if attr == ebbwatch.AttrInterfaces {
			values = a.interfaces(in, rows)
		}
		switch {
		case len(values) > 0:
			if !c.isUsed {
				c.isUsed = true
				c.zeros(rows)
			}
			a.repeat(c, values, index)
		case c.isUsed:
			c.zeros(len(index))
		}
	}
}

// repeat appends to c what the entries that index points to hold. They stand in
// a valid batch, so that they fit. 0 is no entry.
func (a *attributes) repeat(c *attribute, values, index []uint32) {
	entries := append(slices.Grow(a.entries[:0], 256), c.add)
	switch {
	case c.text != nil:
		entries = c.text.entries(entries, values)
		c.text.gather(entries, index, &a.narrow)
	case c.u32 != nil:
		entries = append(entries, values...)
		if c.add != 0 {
			for i := range values {
				entries[1+i] += c.add
			}
		}
		*c.u32 = gather(*c.u32, entries, index)
	case c.u16 != nil:
		entries = append(entries, values...)
		*c.u16 = gather(*c.u16, convert(&a.narrow.u16, entries), index)
	default:
		entries = append(entries, values...)
		*c.u8 = gather(*c.u8, convert(&a.narrow.u8, entries), index)
	}
	a.entries = entries
}

// scratch is memory for the entries of one column.
type scratch struct {
	u16 []uint16
	u8  []uint8
}

// convert returns values, which fit, in the memory of to.
func convert[T uint8 | uint16](to *[]T, values []uint32) []T {
	*to = extend((*to)[:0], max(len(values), 256))[:len(values)]
	for i, v := range values {
		(*to)[i] = T(v)
	}
	return *to
}

// gather appends values[i] for each i of index.
func gather[T any](column, values []T, index []uint32) []T {
	at := len(column)
	column = extend(column, len(index))
	out := column[at:][:len(index)]
	if cap(values) >= 256 && len(values) <= 256 { // the usual case needs no check of bounds
		few := (*[256]T)(values[:256])
		for k, i := range index {
			out[k] = few[uint8(i)]
		}
		return column
	}
	for k, i := range index {
		out[k] = values[i]
	}
	return column
}

// interfaces returns the names of all interfaces by entry: where one names none,
// its interface is the only one. The table does so for a column left out.
func (a *attributes) interfaces(in *ebbwatch.Batch, rows int) []uint32 {
	c, iface := &a.columns[ebbwatch.AttrInterfaces], &a.columns[ebbwatch.AttrInterface]
	all, one := in.Attributes[ebbwatch.AttrInterfaces], in.Attributes[ebbwatch.AttrInterface]
	if len(all) == 0 && !c.isUsed {
		return nil
	}
	if !c.isUsed && iface.isUsed { // rows from before
		c.isUsed = true
		c.text.grow()
		keys := make([]uint32, len(iface.text.used))
		for i, number := range iface.text.used {
			keys[i] = c.text.key(number)
		}
		c.text.gather(keys, iface.text.rowKeys()[:rows], &a.narrow)
	}
	switch {
	case len(all) == 0:
		return one
	case len(one) == 0:
		return all
	}
	a.names = a.names[:0]
	for i, name := range all {
		if name == 0 {
			name = one[i]
		}
		a.names = append(a.names, name)
	}
	return a.names
}

// zeros appends n defaults.
func (c *attribute) zeros(n int) {
	switch {
	case c.text != nil:
		c.text.zeros(n)
	case c.add != 0:
		for range n {
			*c.u32 = append(*c.u32, c.add)
		}
	case c.u32 != nil:
		*c.u32 = appendZeros(*c.u32, n)
	case c.u16 != nil:
		*c.u16 = appendZeros(*c.u16, n)
	default:
		*c.u8 = appendZeros(*c.u8, n)
	}
}

// appendInputs adds the columns that a row of the block uses.
func (a *attributes) appendInputs(input proto.Input) proto.Input {
	for i := range a.columns {
		if c := &a.columns[i]; c.isUsed {
			input = append(input, c.input)
		}
	}
	return input
}

// bytes returns what the columns take for the given number of rows.
func (a *attributes) bytes(rows int) int {
	bytes := 0
	for i := range a.columns {
		switch c := &a.columns[i]; {
		case !c.isUsed:
		case c.text != nil:
			bytes += c.text.bytes()
		case c.u32 != nil:
			bytes += 4 * rows
		case c.u16 != nil:
			bytes += 2 * rows
		default:
			bytes += rows
		}
	}
	return bytes
}

func (a *attributes) reset() {
	for i := range a.columns {
		c := &a.columns[i]
		c.isUsed = c.isAlways
		switch {
		case c.text != nil:
			c.text.Reset()
		case c.u32 != nil:
			c.u32.Reset()
		case c.u16 != nil:
			c.u16.Reset()
		default:
			c.u8.Reset()
		}
	}
}
