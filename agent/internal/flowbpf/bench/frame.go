package main

import "slices"

// Frames of 64 bytes and more, by hand: Ethernet, IP, ports 12345 to 80, TCP with ACK.

var (
	macs  = []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	tcp   = []byte{0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	udp   = []byte{0x30, 0x39, 0, 80, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	addrs = []byte{10, 0, 0, 1, 10, 0, 0, 2}
)

func ip4(ihl, proto byte, payload []byte) []byte {
	options := make([]byte, 4*(int(ihl)-5))
	length := byte(20 + len(options) + len(payload))
	return slices.Concat([]byte{0x40 | ihl, 0, 0, length, 0, 1, 0, 0, 64, proto, 0, 0}, addrs, options, payload)
}

func hotTCP() []byte { return slices.Concat(macs, []byte{8, 0}, ip4(5, 6, tcp)) }
func hotUDP() []byte { return slices.Concat(macs, []byte{8, 0}, ip4(5, 17, udp)) }

// hotOptions and hotQinQ are left to the general parser.
func hotOptions() []byte { return slices.Concat(macs, []byte{8, 0}, ip4(7, 6, tcp)) }

func hotQinQ() []byte {
	return slices.Concat(macs, []byte{0x88, 0xa8, 0, 2, 0x81, 0, 0, 3, 8, 0}, ip4(5, 6, tcp))
}

func hotTCP6() []byte {
	a := append(append([]byte{0xfd}, make([]byte, 14)...), 1)
	b := append(append([]byte{0xfd}, make([]byte, 14)...), 2)
	return slices.Concat(macs, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(tcp)), 6, 64}, a, b, tcp)
}

// The tunnels carry the frame of hotTCP, or its IP packet, under id 7; Geneve
// has 8 bytes of options, GRE a key.

func hotVXLAN() []byte {
	return tunnel(17, []byte{0xc0, 0, 0x12, 0xb5, 0, 80, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0}, hotTCP())
}

func hotGeneve() []byte {
	return tunnel(17, []byte{0xc0, 0, 0x17, 0xc1, 0, 88, 0, 0, 2, 0, 0x65, 0x58, 0, 0, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0}, hotTCP())
}

func hotGRE() []byte {
	return tunnel(47, []byte{0x20, 0, 8, 0, 0, 0, 0, 7}, ip4(5, 6, tcp))
}

func hotIPIP() []byte { return tunnel(4, nil, ip4(5, 6, tcp)) }

func tunnel(proto byte, header, inside []byte) []byte {
	return slices.Concat(macs, []byte{8, 0}, ip4(5, proto, slices.Concat(header, inside)))
}
