// Package capturetest builds packet captures, right ones and such that lie.
package capturetest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"slices"
)

// Packet is a packet to write.
type Packet struct {
	TimeNS int64
	Data   []byte
	Length uint32 // on the link, 0 for that of Data
}

func (p *Packet) length() uint32 {
	if p.Length == 0 {
		return uint32(len(p.Data))
	}
	return p.Length
}

// Magic numbers of pcap files.
const (
	Micro    = 0xa1b2c3d4
	Nano     = 0xa1b23c4d
	Modified = 0xa1b2cd34
)

// PCAP returns a pcap file. network holds the link type, and the length of a
// frame check sequence in its upper bits.
func PCAP(order binary.ByteOrder, magic, network uint32, packets ...Packet) []byte {
	b := slices.Concat(u32(order, magic), u16(order, 2, 4), u32(order, 0, 0, 262144, network))
	unit := int64(1000)
	if magic == Nano {
		unit = 1
	}
	for _, p := range packets {
		b = append(b, u32(order, uint32(p.TimeNS/1e9), uint32(p.TimeNS%1e9/unit), uint32(len(p.Data)), p.length())...)
		if magic == Modified {
			b = append(b, make([]byte, 8)...)
		}
		b = append(b, p.Data...)
	}
	return b
}

// Gzip compresses b.
func Gzip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		panic(err) // never: the buffer takes everything
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// NG writes pcapng. Its zero value is not usable: Order must be set.
type NG struct {
	Order binary.ByteOrder
	bytes.Buffer
}

// Option is an option of a block.
type Option struct {
	Code  uint16
	Value []byte
}

// Options that matter to a reader.
const (
	Resolution = 9
	FCS        = 13
	Offset     = 14
	Flags      = 2
)

// Section begins a section.
func (g *NG) Section() {
	g.Block(0x0a0d0d0a, slices.Concat(u32(g.Order, 0x1a2b3c4d), u16(g.Order, 1, 0), bytes.Repeat([]byte{0xff}, 8)))
}

// Interface describes an interface.
func (g *NG) Interface(link uint16, snaplen uint32, options ...Option) {
	g.Block(1, u16(g.Order, link, 0), u32(g.Order, snaplen), g.options(options))
}

// Enhanced writes a packet whose time stamp is in the interface's units.
func (g *NG) Enhanced(iface uint32, stamp uint64, p Packet, options ...Option) {
	g.Block(6, u32(g.Order, iface, uint32(stamp>>32), uint32(stamp), uint32(len(p.Data)), p.length()), pad(p.Data), g.options(options))
}

// Obsolete writes a packet as early writers did.
func (g *NG) Obsolete(iface uint16, stamp uint64, p Packet) {
	g.Block(2, u16(g.Order, iface, 0), u32(g.Order, uint32(stamp>>32), uint32(stamp), uint32(len(p.Data)), p.length()), pad(p.Data))
}

// Simple writes a packet without a time.
func (g *NG) Simple(p Packet) { g.Block(3, u32(g.Order, p.length()), pad(p.Data)) }

// Block writes any block.
func (g *NG) Block(typ uint32, body ...[]byte) {
	b := slices.Concat(body...)
	size := uint32(12 + len(b))
	g.Write(slices.Concat(u32(g.Order, typ, size), b, u32(g.Order, size)))
}

func (g *NG) options(options []Option) []byte {
	var b []byte
	for _, o := range options {
		b = slices.Concat(b, u16(g.Order, o.Code, uint16(len(o.Value))), pad(o.Value))
	}
	if len(options) > 0 {
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

func pad(b []byte) []byte { return append(slices.Clip(b), make([]byte, -len(b)&3)...) }

func u16(order binary.ByteOrder, v ...uint16) []byte {
	b := make([]byte, 2*len(v))
	for i, x := range v {
		order.PutUint16(b[2*i:], x)
	}
	return b
}

func u32(order binary.ByteOrder, v ...uint32) []byte {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		order.PutUint32(b[4*i:], x)
	}
	return b
}
