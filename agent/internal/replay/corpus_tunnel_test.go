package replay

import (
	"encoding/binary"
	"slices"

	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

func vxlan(vni uint32, frame ...[]byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	return ct.Datagram(50000, 4789, head, slices.Concat(frame...))
}

func geneve(vni uint32, typ uint16, options []byte, payload ...[]byte) []byte {
	head := slices.Concat([]byte{byte(len(options) / 4), 0}, ct.BE(typ), binary.BigEndian.AppendUint32(nil, vni<<8), options)
	return ct.Datagram(50000, 6081, head, slices.Concat(payload...))
}

func gre(flags, typ uint16, fields []byte, payload ...[]byte) []byte {
	return slices.Concat(ct.BE(flags, typ), fields, slices.Concat(payload...))
}

func inTunnel(name, reason string, frames func(h hosts) [][]byte) specimen {
	return specimen{name: name, reason: reason, frames: frames}
}

func tunnelSpecimens() []specimen {
	return slices.Concat(ipTunnelSpecimens(), udpTunnelSpecimens(), deepTunnelSpecimens())
}

func ipTunnelSpecimens() []specimen {
	key := []byte{0, 1, 2, 3}
	all := []specimen{
		inTunnel("GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0, ct.EtherIP4, nil, h.in4(ct.TCP).With(tcp(ct.SYN)))), h.ip4(ct.GRE).With(gre(0, ct.EtherIP6, nil, h.in6(ct.UDP).With(udp(5)))))
		}),
		inTunnel("GRE over IPv6", "", func(h hosts) [][]byte {
			return eth6(h.ip6(ct.GRE).With(gre(0, ct.EtherIP4, nil, h.in4(ct.TCP).With(tcp(ct.SYN)))))
		}),
		inTunnel("GRE with a key", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0x2000, ct.EtherIP4, key, h.in4(ct.TCP).With(tcp(ct.SYN)))))
		}),
		inTunnel("GRE with checksum, key and sequence", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0xb000, ct.EtherIP4, slices.Concat(make([]byte, 4), key, make([]byte, 4)), h.in4(ct.UDP).With(udp(7)))))
		}),
		inTunnel("Ethernet in GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0x2000, ct.EtherTEB, key, ct.Ether(ct.EtherIP4, h.in4(ct.TCP).With(tcp(ct.ACK))))))
		}),
		inTunnel("a VLAN in Ethernet in GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0, ct.EtherTEB, nil, ct.Ether(ct.EtherVLAN, ct.BE(77, ct.EtherIP4), h.in4(ct.TCP).With(tcp(ct.ACK))))))
		}),
		inTunnel("ARP in Ethernet in GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0, ct.EtherTEB, nil, ct.Ether(ct.EtherARP, make([]byte, 46)))))
		}),
		inTunnel("PPTP's GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0x3081, 0x880b, []byte{0, 20, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2}, make([]byte, 20))))
		}),
		inTunnel("GRE with a reserved bit", "reserved-bits", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0x0400, ct.EtherIP4, nil, h.in4(ct.TCP).With(tcp(ct.SYN)))))
		}),
		inTunnel("IP in IP, all four ways", "", func(h hosts) [][]byte {
			return slices.Concat(
				eth4(h.ip4(ct.IPIP).With(h.in4(ct.TCP).With(tcp(ct.SYN))), h.ip4(ct.IPv6inIP).With(h.in6(ct.TCP).With(tcp(ct.SYN)))),
				eth6(h.ip6(ct.IPIP).With(h.in4(ct.UDP).With(udp(3))), h.ip6(ct.IPv6inIP).With(h.in6(ct.UDP).With(udp(3)))))
		}),
		inTunnel("IP in IP in a VLAN", "", func(h hosts) [][]byte {
			return [][]byte{ct.Ether(ct.EtherVLAN, ct.BE(55, ct.EtherIP4), h.ip4(ct.IPIP).With(h.in4(ct.TCP).With(tcp(ct.SYN))))}
		}),
		inTunnel("IP in IP whose inner packet is unreadable", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.IPIP).With(make([]byte, 40)))
		}),
	}
	return all
}

func udpTunnelSpecimens() []specimen {
	inner := func(h hosts) []byte { return ct.Ether(ct.EtherIP4, h.in4(ct.TCP).With(tcp(ct.SYN))) }
	fragments := func(h hosts) [][]byte {
		whole := vxlan(9, ct.Ether(ct.EtherIP4, h.in4(ct.UDP).With(udp(1500))))
		first, last := h.ip4(ct.UDP), h.ip4(ct.UDP)
		first.ID, last.ID, first.Frag, last.Frag = 5, 5, 0x2000, 100
		return eth4(first.With(whole[:800]), last.With(whole[800:]))
	}
	return []specimen{
		inTunnel("VXLAN", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(vxlan(0x123456, inner(h))), h.back4(ct.UDP).With(vxlan(0x123456, ct.Ether(ct.EtherIP6, h.in6(ct.UDP).With(udp(9))))))
		}),
		inTunnel("VXLAN over IPv6", "", func(h hosts) [][]byte { return eth6(h.ip6(ct.UDP).With(vxlan(1, inner(h)))) }),
		inTunnel("VXLAN with ARP inside", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(vxlan(1, ct.Ether(ct.EtherARP, make([]byte, 46)))))
		}),
		inTunnel("VXLAN without its I bit", "reserved-bits", func(h hosts) [][]byte {
			d := vxlan(1, inner(h))
			d[8] = 0
			return eth4(h.ip4(ct.UDP).With(d))
		}),
		inTunnel("VXLAN from its port to another", "tunnel-port", func(h hosts) [][]byte {
			d := vxlan(1, inner(h))
			copy(d, ct.BE(4789, 50000))
			return eth4(h.ip4(ct.UDP).With(d))
		}),
		inTunnel("VXLAN in fragments", "", fragments),
		inTunnel("fragments in VXLAN", "", func(h hosts) [][]byte {
			first, last := h.in4(ct.UDP), h.in4(ct.UDP)
			first.ID, last.ID, first.Frag, last.Frag = 6, 6, 0x2000, 100
			whole := udp(1200)
			return eth4(h.ip4(ct.UDP).With(vxlan(1, ct.Ether(ct.EtherIP4, first.With(whole[:800])))), h.ip4(ct.UDP).With(vxlan(1, ct.Ether(ct.EtherIP4, last.With(whole[800:])))))
		}),
		{name: "VXLAN cut inside the inner IP header", cut: 80, frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(vxlan(1, inner(h), make([]byte, 400))))
		}},
		{name: "VXLAN cut inside its header", cut: 46, frames: func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(vxlan(1, inner(h), make([]byte, 400))))
		}},
		inTunnel("Geneve", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.UDP).With(geneve(7, ct.EtherTEB, nil, inner(h))), h.ip4(ct.UDP).With(geneve(7, ct.EtherIP4, []byte{1, 2, 3, 1, 0, 0, 0, 0}, h.in4(ct.UDP).With(udp(3)))))
		}),
		inTunnel("Geneve with IPv6 inside", "", func(h hosts) [][]byte {
			return eth6(h.ip6(ct.UDP).With(geneve(0xffffff, ct.EtherIP6, nil, h.in6(ct.TCP).With(tcp(ct.SYN)))))
		}),
		inTunnel("Geneve control", "", func(h hosts) [][]byte {
			d := geneve(7, ct.EtherARP, nil, make([]byte, 28))
			d[9] = 0x80
			return eth4(h.ip4(ct.UDP).With(d))
		}),
	}
}

func deepTunnelSpecimens() []specimen {
	return []specimen{
		inTunnel("GRE in VXLAN", "", func(h hosts) [][]byte {
			deep := h.in4(ct.GRE).With(gre(0, ct.EtherIP4, nil, ct.IP4{Src: h.v4(5), Dst: h.v4(6), Proto: ct.TCP}.With(tcp(ct.SYN))))
			return eth4(h.ip4(ct.UDP).With(vxlan(3, ct.Ether(ct.EtherIP4, deep))))
		}),
		inTunnel("VXLAN in VXLAN", "", func(h hosts) [][]byte {
			deep := ct.Ether(ct.EtherIP4, ct.IP4{Src: h.v4(5), Dst: h.v4(6), Proto: ct.TCP}.With(tcp(ct.SYN)))
			return eth4(h.ip4(ct.UDP).With(vxlan(3, ct.Ether(ct.EtherIP4, h.in4(ct.UDP).With(vxlan(4, deep))))))
		}),
		inTunnel("three IP tunnels", "bounds", func(h hosts) [][]byte {
			deep := h.in4(ct.TCP).With(tcp(ct.SYN))
			for host := byte(5); host < 9; host += 2 {
				deep = ct.IP4{Src: h.v4(host), Dst: h.v4(host + 1), Proto: ct.IPIP}.With(deep)
			}
			return eth4(h.ip4(ct.IPIP).With(deep))
		}),
		inTunnel("an ICMP error in GRE", "", func(h hosts) [][]byte {
			return eth4(h.ip4(ct.GRE).With(gre(0, ct.EtherIP4, nil, h.in4(ct.ICMP).With(ct.Ping(3, 1, ct.IP4{Src: h.v4(4), Dst: h.v4(3), Proto: ct.UDP}.With(udp(4)))))))
		}),
	}
}
