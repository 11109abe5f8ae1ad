package sink

import (
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// Types of the attributes' columns that have a wire form of their own.
const (
	typeTunnel = proto.ColumnType("Enum8('' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4)")
	typeApp    = proto.ColumnType("Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4)")
)

// attributes are the columns of flows that most rows leave at the default. One
// that all rows of the block leave at it takes no memory and stands in no insert.
type attributes struct {
	columns [ebbwatch.Attributes]attribute
}

// attribute is one column: exactly one of its pointers is set.
type attribute struct {
	text   *nameColumn
	u32    *proto.ColUInt32
	u16    *proto.ColUInt16
	u8     *proto.ColUInt8
	input  proto.InputColumn
	isUsed bool // by a row of this block
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
		case attr == ebbwatch.AttrTunnel:
			c.u8 = new(proto.ColUInt8)
			data = proto.Alias(c.u8, typeTunnel)
		case attr == ebbwatch.AttrApp:
			c.u8 = new(proto.ColUInt8)
			data = proto.Alias(c.u8, typeApp)
		case attr == ebbwatch.AttrDNSAnswers, attr == ebbwatch.AttrHTTPStatus:
			c.u16 = new(proto.ColUInt16)
			data = c.u16
		default:
			c.u32 = new(proto.ColUInt32)
			data = c.u32
		}
		c.input = proto.InputColumn{Name: attr.Name(), Data: data}
	}
}

// append adds what the records of a batch have; the block held rows before,
// whose interfaces are iface's.
func (a *attributes) append(in *ebbwatch.Batch, rows int, iface *nameColumn) {
	a.appendInterfaces(in, iface)
	for i := range a.columns {
		c, values := &a.columns[i], in.Attributes[i]
		if i == int(ebbwatch.AttrInterfaces) {
			continue
		}
		if len(values) == 0 {
			if c.isUsed {
				c.zeros(in.Len())
			}
			continue
		}
		if !c.isUsed {
			c.isUsed = true
			c.zeros(rows)
		}
		c.append(values)
	}
}

// appendInterfaces adds the names of all interfaces: where a record names none,
// its interface is the only one. The table does so for a column left out.
func (a *attributes) appendInterfaces(in *ebbwatch.Batch, iface *nameColumn) {
	c, values := &a.columns[ebbwatch.AttrInterfaces], in.Attributes[ebbwatch.AttrInterfaces]
	if len(values) == 0 && !c.isUsed {
		return
	}
	c.text.grow()
	if !c.isUsed {
		c.isUsed = true
		for _, key := range iface.Keys32 {
			c.text.Keys32 = append(c.text.Keys32, c.text.key(iface.used[key]))
		}
	}
	for i, name := range in.Interface {
		if len(values) > 0 && values[i] != 0 {
			name = values[i] - 1
		}
		c.text.Keys32 = append(c.text.Keys32, c.text.key(c.text.names.batch[name]))
	}
}

// zeros appends n defaults.
func (c *attribute) zeros(n int) {
	switch {
	case c.text != nil:
		c.text.grow()
		c.text.key(0) // "" thereby has key 0
		c.text.Keys32 = appendZeros(c.text.Keys32, n)
	case c.u32 != nil:
		*c.u32 = appendZeros(*c.u32, n)
	case c.u16 != nil:
		*c.u16 = appendZeros(*c.u16, n)
	default:
		*c.u8 = appendZeros(*c.u8, n)
	}
}

// append appends values as they stand in a valid batch, so that they fit.
func (c *attribute) append(values []uint32) {
	switch {
	case c.text != nil:
		c.text.appendNames(values)
	case c.u32 != nil:
		*c.u32 = append(*c.u32, values...)
	case c.u16 != nil:
		for _, v := range values {
			*c.u16 = append(*c.u16, uint16(v))
		}
	default:
		for _, v := range values {
			*c.u8 = append(*c.u8, uint8(v))
		}
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
			bytes += 4*rows + c.text.bytes()
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
		c.isUsed = false
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
