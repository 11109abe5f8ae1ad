package capture

import (
	"encoding/binary"
	"fmt"
)

// Magic numbers of pcap files (draft-ietf-opsawg-pcap; the modified one is of
// Alexey Kuznetzov's libpcap, with eight more bytes in a record's header).
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34
)

const (
	pcapHeaderSize = 24
	pcapRecordSize = 16
)

// pcap is the one interface that a pcap file has.
type pcap struct {
	unitNS int64 // of the fraction of a second
	extra  int   // bytes that a record's header has beyond the usual 16
	link   uint16
	fcs    uint32 // bytes of the frame check sequence at the end of each frame
}

// pcapHeader reads the file header that begins with magic.
func (r *Reader) pcapHeader(magic []byte) (*pcap, error) {
	p := &pcap{}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(magic) {
		case magicMicro:
			r.order, p.unitNS = order, 1000
		case magicNano:
			r.order, p.unitNS = order, 1
		case magicModified:
			r.order, p.unitNS, p.extra = order, 1000, 8
		}
	}
	if r.order == nil {
		return nil, fmt.Errorf("%w: the file begins with % x", ErrUnknownFormat, magic)
	}
	h, err := r.peek(pcapHeaderSize, "the file header")
	if err != nil {
		return nil, err
	}
	if major, minor := r.order.Uint16(h[4:]), r.order.Uint16(h[6:]); major != 2 || minor != 4 {
		return nil, fmt.Errorf("pcap version %d.%d is not known, want 2.4", major, minor)
	}
	network := r.order.Uint32(h[20:])
	p.link = uint16(network)
	if network&(1<<26) != 0 { // the length of the check sequence is given, in units of 16 bits
		p.fcs = network >> 28 * 2
	}
	return p, r.discard(pcapHeaderSize)
}

func (p *pcap) next(r *Reader) error {
	size := pcapRecordSize + p.extra
	h, err := r.peek(size, "a packet's header")
	if err != nil {
		return err
	}
	// The fraction may be a second or more in files of careless writers.
	timeNS := int64(r.order.Uint32(h))*1e9 + int64(r.order.Uint32(h[4:]))*p.unitNS
	captured, length := r.order.Uint32(h[8:]), r.order.Uint32(h[12:])
	if captured > MaxPacket {
		return fmt.Errorf("%d bytes are said to be captured, above the limit of %d", captured, MaxPacket)
	}
	if err := r.discard(size); err != nil {
		return err
	}
	data, err := r.peek(int(captured), "a packet")
	if err != nil {
		return err
	}
	r.skip = int(captured)
	r.deliver(timeNS, p.link, data, length, p.fcs)
	return nil
}
