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
	link80211       = 105
	linkLoop        = 108
	linkCooked      = 113
	linkRadiotap    = 127
	linkPPPDir      = 204
	linkIPv4        = 228
	linkIPv6        = 229
	linkNFLog       = 239
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
	return fmt.Sprintf("link type %d is not known: want Ethernet, raw IP, BSD loopback, Linux cooked, PPP, Cisco HDLC, 802.11 or NFLOG", e.link)
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
	case link80211:
		proto, payload = wireless(data)
	case linkRadiotap:
		proto, payload = radiotap(data)
	case linkNFLog:
		proto, payload = nflog(data)
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

// wireless reads a frame of IEEE 802.11 (IEEE 802.11-2020, 9.2 and 9.3.2). Only
// data in the clear has an ethertype; those of a block of several frames (A-MSDU)
// are not taken apart.
func wireless(data []byte) (uint16, []byte) {
	const (
		ends    = 0x03 // flags: to and from the distribution system, with a fourth address
		secret  = 0x40 // flags: protected
		order   = 0x80 // flags: HT control follows, with quality of service
		several = 0x80 // in the QoS control: A-MSDU
	)
	if len(data) < 24 || data[0]&0x0f != 0x08 || data[0]&0x40 != 0 || data[1]&secret != 0 || data[22]&0x0f != 0 {
		return etherNone, nil // cut, no data frame, without data, secret, or a later fragment
	}
	size := 24
	if data[1]&ends == ends {
		size += 6
	}
	if data[0]&0x80 != 0 { // quality of service
		if len(data) < size+2 || data[size]&several != 0 {
			return etherNone, nil
		}
		size += 2
		if data[1]&order != 0 {
			size += 4
		}
	}
	const llc = "\xaa\xaa\x03\x00\x00\x00" // RFC 1042
	if len(data) < size+len(llc) || string(data[size:size+len(llc)]) != llc {
		return etherNone, nil
	}
	return word(data[size:], len(llc), len(llc)+2)
}

// radiotap reads what a card told of a frame of 802.11 (radiotap.org), and the frame.
func radiotap(data []byte) (uint16, []byte) {
	const (
		flags  = 1 << 1  // the second field is there
		mac    = 1 << 0  // the first is, of 8 bytes
		more   = 1 << 31 // another word of what is there follows
		padded = 0x20    // flags: the header of 802.11 is padded to 4 bytes
	)
	if len(data) < 8 || data[0] != 0 {
		return etherNone, nil
	}
	size := int(binary.LittleEndian.Uint16(data[2:]))
	if size < 8 || size > len(data) {
		return etherNone, nil
	}
	there := binary.LittleEndian.Uint32(data[4:])
	at := 8
	for word := there; word&more != 0; at += 4 {
		if at+4 > size {
			return etherNone, nil
		}
		word = binary.LittleEndian.Uint32(data[at:])
	}
	if there&mac != 0 {
		at = (at+7)&^7 + 8
	}
	if there&flags != 0 && (at >= size || data[at]&padded != 0) {
		return etherNone, nil
	}
	return wireless(data[size:])
}

// nflog reads what netfilter logged: attributes in the byte order of the
// capturing host, of which one is the packet (LINKTYPE_NFLOG).
func nflog(data []byte) (uint16, []byte) {
	const head, packet = 4, 9 // bytes of an attribute's length and type; the type
	if len(data) < 4+head || data[1] != 0 {
		return etherNone, nil
	}
	data = data[4:]
	var order binary.ByteOrder = binary.LittleEndian
	if int(order.Uint16(data)) > len(data) { // so short a length is a high one the other way round
		order = binary.BigEndian
	}
	for len(data) >= head {
		size := int(order.Uint16(data))
		if size < head {
			break
		}
		if order.Uint16(data[2:]) == packet {
			data = data[head:min(size, len(data))]
			return version(data), data
		}
		data = data[min((size+3)&^3, len(data)):]
	}
	return etherNone, nil
}
