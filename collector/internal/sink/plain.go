package sink

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// plainColumns says what the columns are that a block keeps packed as they came,
// in a third of their size, until an insert is written.
var plainColumns = [ebbwatch.Plains]struct {
	name  string
	kind  proto.ColumnType
	width int // bytes of a value
}{
	ebbwatch.PlainSrcPort:     {"src_port", proto.ColumnTypeUInt16, 2},
	ebbwatch.PlainDstPort:     {"dst_port", proto.ColumnTypeUInt16, 2},
	ebbwatch.PlainSrcPackets:  {"src_packets", proto.ColumnTypeUInt64, 8},
	ebbwatch.PlainSrcBytes:    {"src_bytes", proto.ColumnTypeUInt64, 8},
	ebbwatch.PlainDstPackets:  {"dst_packets", proto.ColumnTypeUInt64, 8},
	ebbwatch.PlainDstBytes:    {"dst_bytes", proto.ColumnTypeUInt64, 8},
	ebbwatch.PlainAgeMS:       {"age_ms", proto.ColumnTypeUInt32, 4},
	ebbwatch.PlainHandshakeUS: {"handshake_us", proto.ColumnTypeUInt32, 4},
	ebbwatch.PlainRTTUS:       {"rtt_us", proto.ColumnTypeUInt32, 4},
	ebbwatch.PlainLatencyUS:   {"app_latency_us", proto.ColumnTypeUInt32, 4},
}

// plains are these columns of a block.
type plains struct {
	records []uint32 // of each batch
	rows    int
	columns [ebbwatch.Plains]plain

	// Values of one batch, while they are written.
	u16 []uint16
	u32 []uint32
	u64 []uint64
}

// plain is one of them.
type plain struct {
	all     *plains
	kind    proto.ColumnType
	width   int
	packed  []byte   // of all batches
	lengths []uint32 // of each: 0 if all of its values are
}

// init makes the columns and appends them to input.
func (p *plains) init(input proto.Input) proto.Input {
	for i, c := range plainColumns {
		p.columns[i] = plain{all: p, kind: c.kind, width: c.width}
		input = append(input, proto.InputColumn{Name: c.name, Data: &p.columns[i]})
	}
	return input
}

// append adds the columns of a batch.
func (p *plains) append(in *ebbwatch.Batch) {
	if !in.KeptPlain() { // nobody has decoded it
		in.KeepPlain()
	}
	p.records, p.rows = append(p.records, uint32(in.Len())), p.rows+in.Len()
	for i := range p.columns {
		c := &p.columns[i]
		c.packed = append(c.packed, in.PlainColumns[i]...)
		c.lengths = append(c.lengths, uint32(len(in.PlainColumns[i])))
	}
}

// bytes returns what the columns take, without what an insert of them does.
func (p *plains) bytes() int {
	bytes := 4 * len(p.records)
	for i := range p.columns {
		bytes += len(p.columns[i].packed) + 4*len(p.columns[i].lengths)
	}
	return bytes
}

func (p *plains) reset() {
	p.records, p.rows = p.records[:0], 0
	for i := range p.columns {
		c := &p.columns[i]
		c.packed, c.lengths = c.packed[:0], c.lengths[:0]
	}
}

// Type implements proto.ColInput.
func (c *plain) Type() proto.ColumnType { return c.kind }

// Rows implements proto.ColInput.
func (c *plain) Rows() int { return c.all.rows }

// WriteColumn implements proto.ColInput.
func (c *plain) WriteColumn(w *proto.Writer) { w.ChainBuffer(c.EncodeColumn) }

// EncodeColumn implements proto.ColInput.
func (c *plain) EncodeColumn(b *proto.Buffer) {
	at, p, packed := len(b.Buf), c.all, c.packed
	b.Buf = extend(b.Buf, c.Rows()*c.width)
	for i, length := range c.lengths {
		n := int(p.records[i])
		to := b.Buf[at : at+n*c.width]
		var batch []byte // nil: zeros
		if length > 0 {
			batch, packed = packed[:length], packed[length:]
		}
		switch c.width {
		case 2:
			p.u16 = ebbwatch.UnpackPlain(p.u16, batch, n)
			for k, v := range p.u16 {
				binary.LittleEndian.PutUint16(to[2*k:], v)
			}
		case 4:
			p.u32 = ebbwatch.UnpackPlain(p.u32, batch, n)
			for k, v := range p.u32 {
				binary.LittleEndian.PutUint32(to[4*k:], v)
			}
		default:
			p.u64 = ebbwatch.UnpackPlain(p.u64, batch, n)
			for k, v := range p.u64 {
				binary.LittleEndian.PutUint64(to[8*k:], v)
			}
		}
		at += len(to)
	}
}
