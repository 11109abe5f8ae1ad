package sink

import (
	"net/netip"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/enrich"
)

// Enricher has the table of what is known of addresses and agents, nil if that is
// nothing.
type Enricher interface {
	Table() *enrich.Table
}

// What is known of an address, in the order of its columns.
const (
	ofCountry = iota
	ofASN
	ofNetwork
	ofTags
	kinds
)

// origins are the columns that tell what is known of addresses and agents beside
// what agents say. One that is empty in all rows of the block stands in no insert.
// Each address is looked up once a batch.
type origins struct {
	enricher  Enricher
	table     *enrich.Table
	names     *interner
	places    []uint32        // in values, by number of a record of table; 0 is not there yet
	numbers   []uint32        // that have a place
	values    [kinds][]uint32 // of the block's records, by place, the first of nothing
	addresses []uint32        // places of the addresses of the batch
	kinds     [kinds]origin
	agentTags coded[uint16]
	hasAgents bool
	systems   asNames
}

// origin are the two columns of one kind. They have the same entries.
type origin struct {
	src, dst coded[uint32]
	isUsed   bool
}

func (o *origins) init(names *interner, src, dst *codes[uint32], agents *codes[uint16]) {
	o.names = names
	for kind := range o.kinds {
		k := &o.kinds[kind]
		k.src, k.dst = *newNames(src, names), *newNames(dst, names)
		if kind == ofASN {
			k.src = coded[uint32]{codes: src, width: 4, kind: proto.ColumnTypeUInt32, entries: []uint32{0}}
			k.dst = coded[uint32]{codes: dst, width: 4, kind: proto.ColumnTypeUInt32}
		}
		o.values[kind] = []uint32{0}
	}
	o.agentTags = *newNames(agents, names)
	o.systems.init()
}

// append adds what is known of the batch, before its addresses are added to the
// block. agents is the number of entries of its agents so far.
func (o *origins) append(in *ebbwatch.Batch, agents int, received time.Time) {
	var table *enrich.Table
	if o.enricher != nil {
		table = o.enricher.Table()
	}
	if table != o.table {
		o.use(table)
	}
	o.tagAgent(in.Agent, agents)
	o.addresses = appendZeros(o.addresses[:0], len(in.Addrs))
	if table != nil {
		o.lookUp(in.Addrs, received)
	}
	for kind := range o.kinds {
		k := &o.kinds[kind]
		if !k.isUsed {
			continue
		}
		at := len(k.src.entries)
		k.src.entries = extend(k.src.entries, len(o.addresses))
		for i, place := range o.addresses {
			k.src.entries[at+i] = o.values[kind][place]
		}
		k.dst.entries, k.dst.text = k.src.entries, k.src.text
	}
}

// use makes table the one that is looked into: its records have other numbers.
func (o *origins) use(table *enrich.Table) {
	o.table, o.places, o.numbers = table, nil, o.numbers[:0]
	if table != nil {
		o.places = make([]uint32, table.Records())
	}
	o.systems.forget()
}

// lookUp finds the places of the addresses of a batch.
func (o *origins) lookUp(addrs []netip.Addr, received time.Time) {
	for i, a := range addrs {
		number := o.table.Lookup(a)
		if number != 0 && o.places[number] == 0 {
			o.add(number, received)
		}
		o.addresses[i] = o.places[number]
	}
}

// add gives a record of the table a place among those of the block.
func (o *origins) add(number uint32, received time.Time) {
	r := o.table.Record(number)
	o.places[number] = uint32(len(o.values[0]))
	o.numbers = append(o.numbers, number)
	for kind, name := range [kinds]string{ofCountry: r.Country, ofNetwork: r.Network, ofTags: r.Tags} {
		k, value := &o.kinds[kind], r.ASN
		if kind != ofASN {
			value = o.names.number(name)
			k.src.text += len(name)
		}
		o.values[kind] = append(o.values[kind], value)
		if value != 0 && !k.isUsed {
			k.isUsed = true
			k.src.entries = appendZeros(k.src.entries, k.src.codes.entries-len(k.src.entries))
		}
	}
	o.systems.add(r.ASN, o.table.Organisation(r.ASN), received)
}

func (o *origins) tagAgent(agent string, agents int) {
	text := ""
	if o.table != nil {
		text = o.table.AgentTags(agent)
	}
	if text != "" && !o.hasAgents {
		o.hasAgents = true
		o.agentTags.entries = appendZeros(o.agentTags.entries, agents-len(o.agentTags.entries))
	}
	if o.hasAgents {
		o.agentTags.addName(entry{o.names.number(text), uint32(len(text))})
	}
}

// appendInputs adds the columns that a row of the block uses.
func (o *origins) appendInputs(input proto.Input) proto.Input {
	for kind, name := range [kinds]string{"country", "asn", "network", "tags"} {
		if k := &o.kinds[kind]; k.isUsed {
			input = append(input, proto.InputColumn{Name: "src_" + name, Data: &k.src}, proto.InputColumn{Name: "dst_" + name, Data: &k.dst})
		}
	}
	if o.hasAgents {
		input = append(input, proto.InputColumn{Name: "agent_tags", Data: &o.agentTags})
	}
	return input
}

// bytes returns what the columns take, here and in an insert.
func (o *origins) bytes() int {
	const record = 4*kinds + 4
	bytes := record*len(o.numbers) + o.systems.bytes()
	if o.hasAgents {
		bytes += o.agentTags.bytes()
	}
	for kind := range o.kinds {
		if k := &o.kinds[kind]; k.isUsed {
			bytes += k.src.bytes() + k.dst.bytes()
		}
	}
	return bytes
}

// reset empties the columns. It is to be called with the reset of the interner.
func (o *origins) reset() {
	for _, number := range o.numbers {
		o.places[number] = 0
	}
	o.numbers = o.numbers[:0]
	for kind := range o.kinds {
		o.values[kind] = o.values[kind][:1]
		k := &o.kinds[kind]
		k.src.reset()
		k.isUsed = false
	}
	o.agentTags.reset()
	o.hasAgents = false
	o.systems.input.Reset()
}

// asNames holds the rows of table as_names: each autonomous system when this
// block meets it for the first time, since a table of names that replaces older
// rows may have some twice.
type asNames struct {
	asn     proto.ColUInt32
	name    proto.ColStr
	updated proto.ColInt64
	seen    map[uint32]struct{}
	input   proto.Input
}

func (n *asNames) init() {
	n.input = proto.Input{{Name: "asn", Data: &n.asn}, {Name: "name", Data: &n.name}, {Name: "updated", Data: proto.Alias(&n.updated, typeMillis)}}
	n.forget()
}

// forget makes all be told again.
func (n *asNames) forget() { n.seen = make(map[uint32]struct{}) }

func (n *asNames) add(asn uint32, name string, received time.Time) {
	if _, ok := n.seen[asn]; ok || name == "" {
		return
	}
	n.seen[asn] = struct{}{}
	n.asn = append(n.asn, asn)
	n.name.Append(name)
	n.updated = append(n.updated, received.UnixMilli())
}

func (n *asNames) rows() int { return len(n.asn) }

func (n *asNames) bytes() int {
	const row = 28
	return row*n.rows() + len(n.name.Buf)
}
