/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_TUNNEL_H
#define EBB_TUNNEL_H

#include "layer.h"
#include "packet.h"

/*
 * The general parser's part for tunnels: from the transport header of the
 * packet outside to the IP header of the one inside. What is not a tunnel's
 * packet, or has no IP inside, stays what it is: a flow between the tunnel's
 * ends.
 */

/*
 * VXLAN (RFC 7348), with the protocol field of its generic extension where the
 * P bit is set, and Geneve (RFC 8926).
 */
static __always_inline int ebb_parse_udp_tunnel(struct __sk_buff *skb, struct ebb_cursor *c)
{
	struct ebb_udp_tunnel t;

	if (c->off + sizeof(t) > c->end)
		return EBB_REASON_BAD_HEADER;
	if (bpf_skb_load_bytes(skb, c->off, &t, sizeof(t)))
		return EBB_REASON_TRUNCATED;
	c->off += sizeof(t);
	if (c->tunnel == EBB_TUNNEL_GENEVE) {
		if (t.flags & EBB_GENEVE_VERSION)
			return EBB_REASON_BAD_HEADER;
		if (t.control & EBB_GENEVE_CONTROL)
			return EBB_REASON_NOT_IP;
		c->off += (t.flags & EBB_GENEVE_OPTIONS) * 4;
		c->type = bpf_ntohs(t.proto);
	} else {
		if (!(t.flags & EBB_VXLAN_ID))
			return EBB_REASON_BAD_HEADER;
		c->type = EBB_ETH_P_TEB;
		if (t.flags & EBB_VXLAN_GENERIC) {
			switch (bpf_ntohs(t.proto) & 0xff) {
			case 1:
				c->type = EBB_ETH_P_IP;
				break;
			case 2:
				c->type = EBB_ETH_P_IPV6;
				break;
			case 3:
				break;
			default:
				return EBB_REASON_NOT_IP;
			}
		}
	}
	c->tunnel_id = bpf_ntohl(t.vni) >> 8;
	return EBB_REASON_NONE;
}

/* GRE (RFC 2784) with key and sequence number (RFC 2890); not PPTP's, version 1. */
static __always_inline int ebb_parse_gre(struct __sk_buff *skb, struct ebb_cursor *c)
{
	struct ebb_gre gre;
	__be32 key = 0;
	__u16 flags;
	__u32 off = c->off + sizeof(gre);

	if (off > c->end)
		return EBB_REASON_BAD_HEADER;
	if (bpf_skb_load_bytes(skb, c->off, &gre, sizeof(gre)))
		return EBB_REASON_TRUNCATED;
	flags = bpf_ntohs(gre.flags);
	if (flags & EBB_GRE_REFUSED)
		return EBB_REASON_NOT_IP;
	if (flags & EBB_GRE_CHECKSUM)
		off += 4;
	if (flags & EBB_GRE_KEY) {
		if (off + sizeof(key) > c->end)
			return EBB_REASON_BAD_HEADER;
		if (bpf_skb_load_bytes(skb, off, &key, sizeof(key)))
			return EBB_REASON_TRUNCATED;
		off += sizeof(key);
	}
	if (flags & EBB_GRE_SEQUENCE)
		off += 4;
	c->off = off;
	c->type = bpf_ntohs(gre.proto);
	c->tunnel_id = bpf_ntohl(key);
	return EBB_REASON_NONE;
}

/* What ebb_parse_tunnel finds. */
enum ebb_inside {
	EBB_INSIDE_NOTHING =
		0, /* p is the flow; p->reason says why, if it looked like a tunnel's */
	EBB_INSIDE_IP = 1,
	EBB_INSIDE_ETHERNET = 2,
};

/* If p is a tunnel's packet, moves c to what is inside. */
__noinline int ebb_parse_tunnel(struct __sk_buff *skb, struct ebb_packet *p, struct ebb_cursor *c)
{
	int reason = EBB_REASON_NONE;

	if (!p || !c)
		return EBB_INSIDE_NOTHING;
	c->tunnel_id = 0;
	switch (c->proto) {
	case EBB_IPPROTO_UDP:
		c->tunnel = ebb_udp_tunnel_kind(bpf_ntohs(p->dport));
		if (c->tunnel == EBB_TUNNEL_NONE)
			return EBB_INSIDE_NOTHING;
		reason = ebb_parse_udp_tunnel(skb, c);
		break;
	case EBB_IPPROTO_GRE:
		c->tunnel = EBB_TUNNEL_GRE;
		reason = ebb_parse_gre(skb, c);
		break;
	case EBB_IPPROTO_IPIP:
		c->tunnel = EBB_TUNNEL_IPIP;
		c->type = EBB_ETH_P_IP;
		break;
	case EBB_IPPROTO_IPV6:
		c->tunnel = EBB_TUNNEL_IPIP;
		c->type = EBB_ETH_P_IPV6;
		break;
	default:
		return EBB_INSIDE_NOTHING;
	}
	if (!reason && c->type == EBB_ETH_P_TEB)
		return EBB_INSIDE_ETHERNET;
	if (!reason)
		reason = ebb_expect(c, c->type);
	p->reason = reason;
	return reason ? EBB_INSIDE_NOTHING : EBB_INSIDE_IP;
}

#endif
