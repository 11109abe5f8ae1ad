package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng).
const (
	blockSection   = 0x0a0d0d0a // the same in both byte orders
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
)

const byteOrderMagic = 0x1a2b3c4d

// Options that matter.
const (
	optionEnd        = 0
	optionResolution = 9  // of an interface
	optionFCS        = 13 // of an interface
	optionOffset     = 14 // of an interface
	optionFlags      = 2  // of an enhanced packet
)

// Sizes of blocks.
const (
	blockFrame    = 12                // type, length, and the length again at the end
	sectionSize   = blockFrame + 16   // the least a section header takes
	packetFixed   = 20                // of the body of a packet block, before the data
	maxPacketSize = MaxPacket + 1<<17 // of a packet block, with its options
	maxInterfaces = 1 << 16
)

// pcapng is the state of the section at hand.
type pcapng struct {
	interfaces []ngInterface
	lastNS     int64 // the time of the packet before
}

// ngInterface is what an interface description tells about its packets.
type ngInterface struct {
	link    uint16
	snaplen uint32 // 0: no limit
	unit    uint64 // time stamps are in units of 1/unit seconds
	offset  int64  // seconds to add to time stamps
	fcs     uint32
}

func (p *pcapng) next(r *Reader) error {
	for {
		found, err := p.block(r)
		if found || err != nil {
			return err
		}
		if err := r.begin(); err != nil {
			return err
		}
	}
}

// block reads one block, and reports whether it was a packet.
func (p *pcapng) block(r *Reader) (packet bool, err error) {
	h, err := r.peek(8, "a block's header")
	if err != nil {
		return false, err
	}
	if binary.BigEndian.Uint32(h) == blockSection {
		return false, p.section(r)
	}
	if r.order == nil { // not the first block: NewReader saw a section header there
		return false, errors.New("a block before the section header")
	}
	typ, size := r.order.Uint32(h), r.order.Uint32(h[4:])
	if size < blockFrame || size%4 != 0 {
		return false, fmt.Errorf("block of type %#x has the impossible length %d", typ, size)
	}
	switch typ {
	case blockInterface:
		return false, p.read(r, typ, size, p.description)
	case blockPacket, blockEnhanced, blockSimple:
		return true, p.read(r, typ, size, func(r *Reader, body []byte) error { return p.packet(r, typ, body) })
	}
	return false, r.discard(int(size)) // names, statistics, secrets and what is yet to come
}

// read looks at a whole block, hands its body to decode, and arranges that the
// block is skipped later.
func (p *pcapng) read(r *Reader, typ, size uint32, decode func(*Reader, []byte) error) error {
	if size > maxPacketSize {
		return fmt.Errorf("block of type %#x has %d bytes, above the limit of %d", typ, size, maxPacketSize)
	}
	b, err := r.peek(int(size), "a block")
	if err != nil {
		return err
	}
	if again := r.order.Uint32(b[size-4:]); again != size {
		return fmt.Errorf("block of type %#x has %d bytes by its beginning and %d by its end", typ, size, again)
	}
	r.skip = int(size)
	if err := decode(r, b[8:size-4]); err != nil {
		return fmt.Errorf("block of type %#x: %w", typ, err)
	}
	return nil
}

// section begins a new section: other byte order, other interfaces.
func (p *pcapng) section(r *Reader) error {
	b, err := r.peek(sectionSize, "a section header")
	if err != nil {
		return err
	}
	switch uint32(byteOrderMagic) {
	case binary.LittleEndian.Uint32(b[8:]):
		r.order = binary.LittleEndian
	case binary.BigEndian.Uint32(b[8:]):
		r.order = binary.BigEndian
	default:
		return fmt.Errorf("section header has the byte order mark % x, which is none", b[8:12])
	}
	size := r.order.Uint32(b[4:])
	if major, minor := r.order.Uint16(b[12:]), r.order.Uint16(b[14:]); major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("pcapng version %d.%d is not known, want 1.0", major, minor)
	}
	if size < sectionSize || size%4 != 0 {
		return fmt.Errorf("section header has the impossible length %d", size)
	}
	p.interfaces = p.interfaces[:0]
	return r.discard(int(size))
}

func (p *pcapng) description(r *Reader, body []byte) error {
	if len(body) < 8 {
		return fmt.Errorf("interface description of %d bytes", len(body))
	}
	if len(p.interfaces) >= maxInterfaces {
		return fmt.Errorf("more than %d interfaces in one section", maxInterfaces)
	}
	i := ngInterface{link: r.order.Uint16(body), snaplen: r.order.Uint32(body[4:]), unit: 1e6}
	err := r.options(body[8:], func(code uint16, value []byte) error {
		switch {
		case code == optionResolution && len(value) == 1:
			var ok bool
			if i.unit, ok = resolution(value[0]); !ok {
				return fmt.Errorf("time resolution %#x is too fine", value[0])
			}
		case code == optionFCS && len(value) == 1:
			i.fcs = (uint32(value[0]) + 7) / 8 // told in bits
		case code == optionOffset && len(value) == 8:
			i.offset = int64(r.order.Uint64(value))
		}
		return nil
	})
	p.interfaces = append(p.interfaces, i)
	return err
}

// resolution returns the units in a second that option if_tsresol means.
func resolution(v uint8) (unit uint64, ok bool) {
	if n := v & 0x7f; v&0x80 != 0 {
		return 1 << (n & 63), n <= 63
	}
	unit = 1
	for range v {
		hi, lo := bits.Mul64(unit, 10)
		if hi != 0 {
			return 0, false
		}
		unit = lo
	}
	return unit, true
}

// options calls visit for each option in b.
func (r *Reader) options(b []byte, visit func(code uint16, value []byte) error) error {
	for len(b) >= 4 {
		code, length := r.order.Uint16(b), int(r.order.Uint16(b[2:]))
		if code == optionEnd {
			return nil
		}
		if b = b[4:]; length > len(b) {
			return fmt.Errorf("option %d of %d bytes, of which %d are there", code, length, len(b))
		}
		if err := visit(code, b[:length]); err != nil {
			return err
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// packet reads the body of a packet block.
func (p *pcapng) packet(r *Reader, typ uint32, body []byte) error {
	if typ == blockSimple {
		return p.simple(r, body)
	}
	if len(body) < packetFixed {
		return fmt.Errorf("packet block of %d bytes: %w", len(body), io.ErrUnexpectedEOF)
	}
	id := r.order.Uint32(body)
	if typ == blockPacket {
		id = uint32(r.order.Uint16(body))
	}
	if int64(id) >= int64(len(p.interfaces)) {
		return fmt.Errorf("interface %d is not described, there are %d so far", id, len(p.interfaces))
	}
	i := &p.interfaces[id]
	ns, err := i.time(uint64(r.order.Uint32(body[4:]))<<32 | uint64(r.order.Uint32(body[8:])))
	if err != nil {
		return err
	}
	captured, length := r.order.Uint32(body[12:]), r.order.Uint32(body[16:])
	body = body[packetFixed:]
	if captured > MaxPacket || int(captured) > len(body) {
		return fmt.Errorf("%d bytes are said to be captured, but the block has room for %d", captured, len(body))
	}
	fcs := i.fcs
	if typ == blockEnhanced {
		err = r.options(body[min(int(captured+3)&^3, len(body)):], func(code uint16, value []byte) error {
			if code == optionFlags && len(value) == 4 {
				if n := r.order.Uint32(value) >> 5 & 0xf; n != 0 {
					fcs = n
				}
			}
			return nil
		})
	}
	p.lastNS = ns
	r.deliver(ns, i.link, body[:captured], length, fcs)
	return err
}

// simple reads a packet block that has a length and nothing else.
func (p *pcapng) simple(r *Reader, body []byte) error {
	if len(p.interfaces) == 0 {
		return errors.New("a packet, but no interface is described")
	}
	if len(body) < 4 {
		return fmt.Errorf("packet block of %d bytes: %w", len(body), io.ErrUnexpectedEOF)
	}
	i := &p.interfaces[0]
	length := r.order.Uint32(body)
	captured := length
	if i.snaplen != 0 {
		captured = min(captured, i.snaplen)
	}
	if int64(captured) > int64(len(body)-4) {
		return fmt.Errorf("%d bytes are said to be captured, but the block has room for %d", captured, len(body)-4)
	}
	r.deliver(p.lastNS, i.link, body[4:4+captured], length, i.fcs)
	return nil
}

// time converts a time stamp to nanoseconds since 1970, rounded down.
func (i *ngInterface) time(stamp uint64) (int64, error) {
	seconds := int64(stamp / i.unit)
	if seconds < 0 || (i.offset > 0 && seconds > math.MaxInt64-i.offset) {
		return 0, fmt.Errorf("time stamp %d is out of range", stamp)
	}
	seconds += i.offset
	hi, lo := bits.Mul64(stamp%i.unit, 1e9)
	fraction, _ := bits.Div64(hi, lo, i.unit) // the remainder is below the unit, so this fits
	if seconds < 0 || seconds > math.MaxInt64/int64(1e9)-1 {
		return 0, fmt.Errorf("time stamp %d is out of range: %d seconds since 1970", stamp, seconds)
	}
	return seconds*1e9 + int64(fraction), nil
}
