package flowbpf

// Place is an interface: its index, and the network namespace that the index
// means something in, by the number that whoever attaches gave it. 0 is the
// namespace of the process.
type Place struct{ NetNS, Ifindex uint32 }

// Key names a conversation by its endpoints, in the order of Entry: (A, APort)
// is the lower one. Addresses are as netip.Addr.As16 has them. It holds no
// pointers, so that maps of it cost the garbage collector nothing.
type Key struct {
	A, B         [16]byte
	APort, BPort uint16
	Proto        uint8
	Tunnel       uint8
	Mapped       bool // IPv6 packets whose addresses are IPv4-mapped (::ffff:a.b.c.d), no IPv4 packets
	TunnelID     uint32
}

// Key returns the entry's conversation.
func (e *Entry) Key() Key {
	return Key{A: e.A.As16(), B: e.B.As16(), APort: e.APort, BPort: e.BPort, Proto: e.Proto, Tunnel: e.Tunnel, Mapped: e.A.Is4In6(), TunnelID: e.TunnelID}
}

// What the bits of ebb_rest.place mean, in bpf/lib/types.h.
const (
	placeTunnel = 16
	placeSlot   = 19
	tunnelMask  = 1<<(placeSlot-placeTunnel) - 1
	maxSlots    = 1 << (32 - placeSlot)
)
