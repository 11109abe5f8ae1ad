package sink

import (
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
	groups  [ebbwatch.Groups]codes[uint16]
	columns [ebbwatch.Attributes]attribute
}

// attribute is one column.
type attribute struct {
	coded[uint16]
	isUsed   bool // by a row of this block
	isAlways bool // in every insert, because the table has another default
}

func (a *attributes) init(names *interner) {
	for g := range a.groups {
		a.groups[g].init()
	}
	for i := range a.columns {
		c, attr := &a.columns[i], ebbwatch.Attribute(i)
		group := &a.groups[attr.Group()]
		c.coded = coded[uint16]{codes: group, width: 4, kind: proto.ColumnTypeUInt32, entries: []uint32{0}}
		switch {
		case attr.Text():
			c.coded = *newNames(group, names)
		case attributeTypes[attr] != "":
			c.width, c.kind = 1, attributeTypes[attr]
		case attr == ebbwatch.AttrProto, attr == ebbwatch.AttrICMPType, attr == ebbwatch.AttrICMPCode:
			c.width, c.kind = 1, proto.ColumnTypeUInt8
		case attr == ebbwatch.AttrSrcFlags, attr == ebbwatch.AttrDstFlags, attr == ebbwatch.AttrVLAN, attr == ebbwatch.AttrDNSAnswers, attr == ebbwatch.AttrHTTPStatus:
			c.width, c.kind = 2, proto.ColumnTypeUInt16
		case attr == ebbwatch.AttrSampling: // what a batch holds is one less
			c.isAlways, c.isUsed, c.entries[0] = true, true, 1
		}
	}
}

// append adds what the records of a valid batch have.
func (a *attributes) append(in *ebbwatch.Batch) {
	for i := range a.columns {
		c, attr := &a.columns[i], ebbwatch.Attribute(i)
		entries := in.Entries[attr.Group()]
		if entries == 0 {
			continue
		}
		values, held := in.Attributes[attr], len(c.entries)
		if len(values) > 0 && !c.isUsed {
			c.isUsed = true
			c.fill(c.codes.entries - held)
		}
		switch {
		case !c.isUsed:
		case len(values) == 0:
			c.fill(1 + entries)
		default:
			c.fill(1)
			c.add(values)
		}
		if attr == ebbwatch.AttrInterfaces {
			a.nameInterfaces(held)
		}
	}
	for g := range a.groups {
		if entries := in.Entries[g]; entries > 0 {
			a.groups[g].add(in.Index[g], 1+entries) // the default is an entry of each batch
		} else {
			a.groups[g].addSame(0, in.Len())
		}
	}
}

// fill adds entries that are the default.
func (c *attribute) fill(n int) {
	at, v := len(c.entries), c.entries[0]
	c.entries = extend(c.entries, n)
	for i := range c.entries[at:] {
		c.entries[at+i] = v
	}
}

// add adds the entries of a batch.
func (c *attribute) add(values []uint32) {
	at := len(c.entries)
	if c.names != nil {
		c.entries = extend(c.entries, len(values))
		added, text := c.entries[at:][:len(values)], uint32(0)
		for i, v := range values {
			name := c.names.batch[v]
			added[i] = name.number
			text += name.length // of at most 2^16 names of at most 255 bytes
		}
		c.text += int(text)
		return
	}
	c.entries = append(c.entries, values...)
	if least := c.entries[0]; least != 0 {
		for i := range values {
			c.entries[at+i] += least
		}
	}
}

// nameInterfaces completes the entries from the given one on that name no
// interfaces: theirs is the only one. The table does so for a column left out.
func (a *attributes) nameInterfaces(from int) {
	all, one := &a.columns[ebbwatch.AttrInterfaces], &a.columns[ebbwatch.AttrInterface]
	if !one.isUsed {
		return
	}
	for i := from; i < len(all.entries); i++ {
		if all.entries[i] == 0 {
			all.entries[i] = one.entries[i]
			all.text += len(all.names.name(one.entries[i]))
		}
	}
}

// appendInputs adds the columns that a row of the block uses.
func (a *attributes) appendInputs(input proto.Input) proto.Input {
	for i := range a.columns {
		if c := &a.columns[i]; c.isUsed {
			input = append(input, proto.InputColumn{Name: ebbwatch.Attribute(i).Name(), Data: &c.coded})
		}
	}
	return input
}

// bytes returns what the columns take, here and in an insert.
func (a *attributes) bytes() int {
	bytes := 0
	for i := range a.columns {
		if c := &a.columns[i]; c.isUsed {
			bytes += c.bytes()
		}
	}
	for g := range a.groups {
		bytes += a.groups[g].bytes()
	}
	return bytes
}

func (a *attributes) reset() {
	for i := range a.columns {
		a.columns[i].reset()
		a.columns[i].isUsed = a.columns[i].isAlways
	}
	for g := range a.groups {
		a.groups[g].reset()
	}
}
