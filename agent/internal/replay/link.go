package replay

import (
	"encoding/binary"
	"fmt"
)

// Link types of captures that replay understands (LINKTYPE_ values of
// draft-ietf-opsawg-pcaplinktype). 12 and 14 are what BSD systems write for raw IP.
const (
	linkNull        = 0
	linkEthernet    = 1
	linkPPP         = 9
	linkRawBSD      = 12
	linkRawOpenBSD  = 14
	linkPPPSerial   = 50
	linkPPPEther    = 51
	linkRaw         = 101
	linkCiscoHDLC   = 104
	linkLoop        = 108
	linkCooked      = 113
	linkPPPDir      = 204
	linkIPv4        = 228
	linkIPv6        = 229
	linkCooked2     = 276
	etherHeaderSize = 14
)

// Ethertypes.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	// etherNone stands for what is no ethertype: a reserved value (RFC 5342).
	etherNone = 0xffff
)

// linkError says that the frames of a capture begin with headers that are not known.
type linkError struct{ link uint16 }

func (e *linkError) Error() string {
	return fmt.Sprintf("link type %d is not known: want Ethernet, raw IP, BSD loopback, Linux cooked, PPP or Cisco HDLC", e.link)
}

// framer gives frames of every link type the header that the datapath knows.
type framer struct{ buf []byte }

// ethernet returns the beginning of the frame, at most maxFrame bytes, behind an
// Ethernet header: its own, or one made of what the link's own header tells.
// (The datapath knows raw IP, too, but test runs take bytes 12 and 13 for an
// ethertype whatever the interface.) The result is valid until the next call.
func (f *framer) ethernet(link uint16, data []byte) ([]byte, error) {
	if link == linkEthernet {
		return data[:min(len(data), maxFrame)], nil
	}
	proto, payload, err := network(link, data)
	if err != nil {
		return nil, err
	}
	if f.buf == nil {
		f.buf = make([]byte, maxFrame)
	}
	clear(f.buf[:12])
	binary.BigEndian.PutUint16(f.buf[12:], proto)
	n := copy(f.buf[etherHeaderSize:], payload)
	return f.buf[:etherHeaderSize+n], nil
}

// network returns the ethertype of a frame's payload, and the payload. A header
// that is not all there, or that tells of no ethertype, makes etherNone.
func network(link uint16, data []byte) (proto uint16, payload []byte, err error) {
	switch link {
	case linkRaw, linkRawBSD, linkRawOpenBSD:
		return version(data), data, nil
	case linkIPv4:
		return etherIPv4, data, nil
	case linkIPv6:
		return etherIPv6, data, nil
	case linkNull, linkLoop:
		proto, payload = family(link, data)
	case linkCooked:
		proto, payload = word(data, 14, 16)
	case linkCooked2:
		proto, payload = word(data, 0, 20)
	case linkCiscoHDLC:
		proto, payload = word(data, 2, 4)
	case linkPPP, linkPPPSerial:
		proto, payload = ppp(data)
	case linkPPPDir:
		proto, payload = ppp(data[min(1, len(data)):])
	case linkPPPEther:
		proto, payload = ppp(data[min(6, len(data)):])
	default:
		return 0, nil, &linkError{link}
	}
	return proto, payload, nil
}

// pseudo returns how many bytes of a frame were made up by whoever captured it.
// A Linux cooked header is, too, but stands in the place of a real one.
func pseudo(link uint16) uint32 {
	if link == linkPPPDir {
		return 1
	}
	return 0
}

// version tells raw IP by its first four bits.
func version(data []byte) uint16 {
	if len(data) > 0 {
		switch data[0] >> 4 {
		case 4:
			return etherIPv4
		case 6:
			return etherIPv6
		}
	}
	return etherNone
}

// word returns the ethertype at offset at, and what follows a header of size bytes.
func word(data []byte, at, size int) (uint16, []byte) {
	if len(data) < size {
		return etherNone, nil
	}
	proto := binary.BigEndian.Uint16(data[at:])
	if proto < 0x600 { // a length or an own number of the link
		proto = etherNone
	}
	return proto, data[size:]
}

// family reads the address family before packets of BSD's loopback interface:
// in the byte order of the capturing host, for LOOP in that of the network.
func family(link uint16, data []byte) (uint16, []byte) {
	if len(data) < 4 {
		return etherNone, nil
	}
	v := binary.BigEndian.Uint32(data)
	if link == linkNull && v > 0xffff {
		v = binary.LittleEndian.Uint32(data)
	}
	switch v {
	case 2:
		return etherIPv4, data[4:]
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS
		return etherIPv6, data[4:]
	}
	return etherNone, data[4:]
}

// ppp reads a PPP header (RFC 1661, 1662), of which address, control and the
// upper half of the protocol may be left out.
func ppp(data []byte) (uint16, []byte) {
	if len(data) >= 2 && data[0] == 0xff && data[1] == 0x03 {
		data = data[2:]
	} else if len(data) >= 4 && data[0] == 0x0f && data[1] == 0 { // Cisco HDLC in its place
		return word(data, 2, 4)
	}
	if len(data) < 2 {
		return etherNone, nil
	}
	proto := uint16(data[0])
	if proto&1 != 0 {
		data = data[1:]
	} else {
		proto, data = binary.BigEndian.Uint16(data), data[2:]
	}
	switch proto {
	case 0x0021:
		return etherIPv4, data
	case 0x0057:
		return etherIPv6, data
	}
	return etherNone, data
}
