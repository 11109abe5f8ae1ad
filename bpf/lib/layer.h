/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_LAYER_H
#define EBB_LAYER_H

#include "fragment.h"
#include "packet.h"

/* The general parser's part for one IP packet: the outermost, or one in a tunnel. */

/* Where the parser stands. */
struct ebb_cursor {
	__u32 off; /* of the next header */
	__u32 end; /* where the IP packet, or one around it, says that it ends */
	__u32 tunnel_id;
	__u8 tunnel;	      /* that the next IP header is inside of: enum ebb_tunnel */
	__u8 tags;	      /* VLAN tags seen */
	__u8 proto;	      /* of the next header */
	__u8 family;	      /* of the next IP header */
	__u8 later;	      /* a fragment without transport header */
	__u8 part;	      /* a fragment, or inside of one: its length tells nothing */
	__u16 type;	      /* of what is inside a tunnel: EtherType */
	__u8 level;	      /* tunnels around p */
	__u8 limit;	      /* of them */
	__u8 reason;	      /* why the packet at level was not read: enum ebb_reason */
	__u8 inside;	      /* the same of one that is given up */
	struct ebb_mark mark; /* of p */
	struct ebb_mark around[EBB_MAX_TUNNELS]; /* of those around it */
};

static __always_inline bool ebb_is_tag(__u16 type)
{
	return type == EBB_ETH_P_8021Q || type == EBB_ETH_P_8021AD || type == EBB_ETH_P_QINQ;
}

/* Takes note that what is next has this EtherType. */
static __always_inline int ebb_expect(struct ebb_cursor *c, __u16 type)
{
	if (type == EBB_ETH_P_IP)
		c->family = EBB_IP4;
	else if (type == EBB_ETH_P_IPV6)
		c->family = EBB_IP6;
	else
		return EBB_REASON_NOT_IP;
	return EBB_REASON_NONE;
}

/*
 * Moves c from an Ethernet header to the IP header behind it. VLAN tags go to p
 * unless they are a tunnel's.
 */
__noinline int ebb_parse_ether(struct __sk_buff *skb, struct ebb_packet *p, struct ebb_cursor *c)
{
	struct ebb_pppoe ppp;
	struct ebb_vlan vlan;
	__be16 type;
	__u16 proto;

	if (!p || !c)
		return EBB_REASON_LINK;
	if (bpf_skb_load_bytes(skb, c->off + __builtin_offsetof(struct ebb_eth, proto), &type, 2))
		return EBB_REASON_TRUNCATED;
	c->off += EBB_ETH_LEN;
	proto = bpf_ntohs(type);
	for (int i = 0; i < EBB_MAX_TAGS && ebb_is_tag(proto); i++) {
		if (bpf_skb_load_bytes(skb, c->off, &vlan, sizeof(vlan)))
			return EBB_REASON_TRUNCATED;
		if (!c->tunnel)
			p->tags = ebb_push_tag(p->tags, c->tags++, bpf_ntohs(vlan.tci));
		proto = bpf_ntohs(vlan.proto);
		c->off += EBB_VLAN_LEN;
	}
	if (proto == EBB_ETH_P_PPPOE) {
		if (bpf_skb_load_bytes(skb, c->off, &ppp, sizeof(ppp)))
			return EBB_REASON_TRUNCATED;
		c->off += sizeof(ppp);
		if (ppp.version_type != 0x11 || ppp.code)
			return EBB_REASON_BAD_HEADER;
		if (ppp.proto == bpf_htons(EBB_PPP_IP4))
			proto = EBB_ETH_P_IP;
		else if (ppp.proto == bpf_htons(EBB_PPP_IP6))
			proto = EBB_ETH_P_IPV6;
	}
	if (ebb_is_tag(proto))
		return EBB_REASON_TOO_DEEP;
	return ebb_expect(c, proto);
}

/*
 * Sets the end of a packet that begins at off and says it has len bytes. A
 * length of 0 reaches to the end of the frame ("BIG TCP"); a packet inside
 * another never ends later than that one.
 */
static __always_inline void ebb_set_end(struct __sk_buff *skb, struct ebb_cursor *c, __u32 off,
					__u32 len)
{
	__u32 end = len ? off + len : ebb_frame_len(skb);

	if (end < c->end)
		c->end = end;
}

static __always_inline int ebb_parse_ip4(struct __sk_buff *skb, struct ebb_packet *p,
					 struct ebb_cursor *c)
{
	struct ebb_ip4 ip;
	__u32 header, total, fragment;

	if (c->off + sizeof(ip) > c->end)
		return EBB_REASON_BAD_HEADER;
	if (bpf_skb_load_bytes(skb, c->off, &ip, sizeof(ip)))
		return EBB_REASON_TRUNCATED;
	header = (ip.version_ihl & 0xf) * 4;
	total = bpf_ntohs(ip.total_len);
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip) || (total && total < header))
		return EBB_REASON_BAD_HEADER;
	fragment = bpf_ntohs(ip.fragment);
	ebb_set_end(skb, c, c->off, total);
	c->off += header;
	c->proto = ip.proto;
	c->later = (fragment & EBB_IP4_OFFSET) != 0;
	c->mark.first = (fragment & EBB_IP4_MORE) && !c->later;
	c->mark.id = ip.id;
	p->src4 = ip.src;
	p->dst4 = ip.dst;
	return EBB_REASON_NONE;
}

static __always_inline int ebb_parse_ip6(struct __sk_buff *skb, struct ebb_packet *p,
					 struct ebb_cursor *c)
{
	struct ebb_ip6 ip;
	__u32 payload;

	if (c->off + sizeof(ip) > c->end)
		return EBB_REASON_BAD_HEADER;
	if (bpf_skb_load_bytes(skb, c->off, &ip, sizeof(ip)))
		return EBB_REASON_TRUNCATED;
	if ((ip.version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return EBB_REASON_BAD_HEADER;
	payload = bpf_ntohs(ip.payload_len);
	c->off += sizeof(ip);
	ebb_set_end(skb, c, c->off, payload);
	c->proto = ip.next;
	__builtin_memcpy(p->src6, ip.src, sizeof(p->src6));
	__builtin_memcpy(p->dst6, ip.dst, sizeof(p->dst6));
	return EBB_REASON_NONE;
}

/* Of IPv4 only the authentication header; its payload is readable all the same. */
static __always_inline bool ebb_is_extension(__u8 proto, __u8 family)
{
	if (proto == EBB_IPPROTO_AH)
		return true;
	if (family != EBB_IP6)
		return false;
	switch (proto) {
	case EBB_IPPROTO_HOPOPTS:
	case EBB_IPPROTO_ROUTING:
	case EBB_IPPROTO_DSTOPTS:
	case EBB_IPPROTO_MH:
	case EBB_IPPROTO_HIP:
	case EBB_IPPROTO_SHIM6:
	case EBB_IPPROTO_FRAGMENT:
		return true;
	}
	return false;
}

/* Walks the extension headers up to the transport header or what hides it. */
static __always_inline int ebb_parse_extensions(struct __sk_buff *skb, struct ebb_cursor *c)
{
	struct ebb_ip6_extension e;

	/* The counter's condition makes the loop close by a jump: Linux 6.1 wants that. */
	for (int i = 0; i < EBB_MAX_EXTENSIONS; i++) {
		if (!ebb_is_extension(c->proto, c->family))
			return EBB_REASON_NONE;
		if (c->off + sizeof(e) > c->end)
			return EBB_REASON_BAD_HEADER;
		if (bpf_skb_load_bytes(skb, c->off, &e, sizeof(e)))
			return EBB_REASON_TRUNCATED;
		if (c->proto == EBB_IPPROTO_FRAGMENT) {
			__u16 offset = bpf_ntohs(e.offset);

			c->off += sizeof(e);
			c->proto = e.next;
			c->mark.id = e.id;
			c->mark.first = offset & EBB_IP6_MORE;
			if (offset & EBB_IP6_OFFSET) {
				c->mark.first = 0;
				c->later = 1;
				return EBB_REASON_NONE;
			}
			continue;
		}
		c->off += c->proto == EBB_IPPROTO_AH ? (e.len + 2) * 4 : (e.len + 1) * 8;
		c->proto = e.next;
	}
	return ebb_is_extension(c->proto, c->family) ? EBB_REASON_TOO_DEEP : EBB_REASON_NONE;
}

/* TCP's own fields; unknown where the packet ends before they do. */
static __always_inline void ebb_parse_tcp(struct __sk_buff *skb, struct ebb_packet *p,
					  struct ebb_cursor *c)
{
	struct ebb_transport t;
	__u16 length_flags;

	if (c->off + sizeof(t) > c->end || bpf_skb_load_bytes(skb, c->off, &t, sizeof(t)))
		return;
	length_flags = bpf_ntohs(t.length_flags);
	p->flags = length_flags & EBB_TCP_FLAGS;
	p->seq = bpf_ntohl(t.seq);
	p->ack = bpf_ntohl(t.ack);
	p->window = bpf_ntohs(t.window);
	p->header += ebb_tcp_len(length_flags);
	if (!c->part && c->end > p->header)
		p->payload_len = c->end - p->header;
}

/* Ports, flags, ICMP type and code, all within what the IP header covers. */
static __always_inline int ebb_parse_transport(struct __sk_buff *skb, struct ebb_packet *p,
					       struct ebb_cursor *c)
{
	__be16 ports[2];
	__u8 icmp[2];

	switch (c->proto) {
	case EBB_IPPROTO_TCP:
	case EBB_IPPROTO_UDP:
	case EBB_IPPROTO_UDPLITE:
	case EBB_IPPROTO_SCTP:
	case EBB_IPPROTO_DCCP:
		if (c->off + sizeof(ports) > c->end)
			return EBB_REASON_BAD_HEADER;
		if (bpf_skb_load_bytes(skb, c->off, ports, sizeof(ports)))
			return EBB_REASON_TRUNCATED;
		p->sport = ports[0];
		p->dport = ports[1];
		break;
	case EBB_IPPROTO_ICMP:
	case EBB_IPPROTO_ICMPV6:
		/* ICMP of the other family is a protocol like any other. */
		if ((c->proto == EBB_IPPROTO_ICMP) != (c->family == EBB_IP4))
			break;
		if (c->off + sizeof(icmp) > c->end)
			return EBB_REASON_BAD_HEADER;
		if (bpf_skb_load_bytes(skb, c->off, icmp, sizeof(icmp)))
			return EBB_REASON_TRUNCATED;
		p->icmp_type = icmp[0];
		p->icmp_code = icmp[1];
		break;
	}
	if (c->proto == EBB_IPPROTO_TCP) {
		ebb_parse_tcp(skb, p, c);
	} else if (c->proto == EBB_IPPROTO_UDP) {
		p->header += 8;
		if (!c->part && c->end > p->header)
			p->payload_len = c->end - p->header;
	}
	return EBB_REASON_NONE;
}

/*
 * The packet whose IP header is at c, of the family that c says; c is then
 * before the transport header. Says why that did not work.
 */
__noinline int ebb_parse_layer(struct __sk_buff *skb, struct ebb_packet *p, struct ebb_cursor *c)
{
	int reason;

	if (!p || !c)
		return EBB_REASON_LINK;
	p->sport = p->dport = 0;
	p->flags = p->window = 0;
	p->seq = p->ack = p->payload_len = 0;
	p->icmp_type = p->icmp_code = 0;
	c->later = 0;
	c->mark.off = c->off;
	c->mark.first = 0;
	c->mark.family = p->family = c->family;
	c->mark.tunnel = p->tunnel = c->tunnel;
	c->mark.tunnel_id = p->tunnel_id = c->tunnel_id;
	reason = c->family == EBB_IP4 ? ebb_parse_ip4(skb, p, c) : ebb_parse_ip6(skb, p, c);
	if (reason)
		return reason;
	c->mark.proto = c->proto;
	if (!c->later) {
		reason = ebb_parse_extensions(skb, c);
		if (reason)
			return reason;
	}
	c->part |= c->later | c->mark.first;
	p->header = c->off;
	return c->later ? EBB_REASON_NONE : ebb_parse_transport(skb, p, c);
}

#endif
