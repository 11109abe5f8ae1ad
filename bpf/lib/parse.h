/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_PARSE_H
#define EBB_PARSE_H

#include "fragment.h"
#include "packet.h"
#include "types.h"

/*
 * The general parser: any number of bytes in the linear part of the skb, VLAN
 * tags in the data, IPv4 options, IPv6 extension headers, fragments, interfaces
 * without a link-layer header. It copies each header by bpf_skb_load_bytes,
 * which checks bounds, and all its loops are bounded.
 */

/* Where the parser stands. */
struct ebb_cursor {
	__u32 off;   /* of the next header */
	__u32 end;   /* offset at which the IP packet says it ends */
	__u32 id;    /* of the fragmented datagram */
	__u8 proto;  /* of the next header */
	__u8 first;  /* first fragment of several */
	__u8 later;  /* a fragment without transport header */
	__u8 family; /* of p's addresses: enum ebb_verdict */
};

/* The offset of the IP header in c, its ethertype in *proto; tags go to p. */
static __always_inline bool ebb_parse_link(struct __sk_buff *skb, struct ebb_packet *p,
					   struct ebb_cursor *c, __u32 link, __u16 *proto)
{
	__u32 tags = skb->vlan_present ? 1 : 0;
	struct ebb_vlan vlan;
	__be16 type;
	__u8 version;

	if (link == EBB_LINK_IP) {
		if (bpf_skb_load_bytes(skb, 0, &version, 1))
			return false;
		c->off = 0;
		*proto = version >> 4 == 4 ? EBB_ETH_P_IP : EBB_ETH_P_IPV6;
		return true;
	}
	if (link != EBB_LINK_ETHERNET ||
	    bpf_skb_load_bytes(skb, __builtin_offsetof(struct ebb_eth, proto), &type, 2))
		return false;
	c->off = EBB_ETH_LEN;
	*proto = bpf_ntohs(type);
	for (int i = 0; i < EBB_MAX_TAGS; i++) {
		if (*proto != EBB_ETH_P_8021Q && *proto != EBB_ETH_P_8021AD &&
		    *proto != EBB_ETH_P_QINQ)
			break;
		if (bpf_skb_load_bytes(skb, c->off, &vlan, sizeof(vlan)))
			return false;
		p->tags = ebb_push_tag(p->tags, tags++, bpf_ntohs(vlan.tci));
		*proto = bpf_ntohs(vlan.proto);
		c->off += EBB_VLAN_LEN;
	}
	return true;
}

static __always_inline bool ebb_parse_ip4(struct __sk_buff *skb, struct ebb_packet *p,
					  struct ebb_cursor *c)
{
	struct ebb_ip4 ip;
	__u32 header, total, fragment;

	if (bpf_skb_load_bytes(skb, c->off, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4)
		return false;
	header = (ip.version_ihl & 0xf) * 4;
	total = bpf_ntohs(ip.total_len);
	if (header < sizeof(ip) || (total && total < header))
		return false;
	fragment = bpf_ntohs(ip.fragment);
	c->end = total ? c->off + total : skb->len;
	c->off += header;
	c->proto = ip.proto;
	c->later = (fragment & EBB_IP4_OFFSET) != 0;
	c->first = (fragment & EBB_IP4_MORE) && !c->later;
	c->id = ip.id;
	c->family = EBB_IP4;
	p->src4 = ip.src;
	p->dst4 = ip.dst;
	return true;
}

/* Walks the extension headers up to the transport header or what hides it. */
static __always_inline bool ebb_parse_extensions(struct __sk_buff *skb, struct ebb_cursor *c)
{
	struct ebb_ip6_extension e;

	for (int i = 0; i <= EBB_MAX_EXTENSIONS; i++) {
		switch (c->proto) {
		case EBB_IPPROTO_HOPOPTS:
		case EBB_IPPROTO_ROUTING:
		case EBB_IPPROTO_DSTOPTS:
		case EBB_IPPROTO_MH:
		case EBB_IPPROTO_HIP:
		case EBB_IPPROTO_SHIM6:
		case EBB_IPPROTO_AH:
		case EBB_IPPROTO_FRAGMENT:
			break;
		default:
			return true;
		}
		if (c->off + sizeof(e) > c->end || bpf_skb_load_bytes(skb, c->off, &e, sizeof(e)))
			return false;
		if (c->proto == EBB_IPPROTO_FRAGMENT) {
			__u16 offset = bpf_ntohs(e.offset);

			c->off += sizeof(e);
			c->id = e.id;
			c->proto = e.next;
			if (offset & EBB_IP6_OFFSET) {
				c->later = 1;
				return true;
			}
			c->first = offset & EBB_IP6_MORE;
			continue;
		}
		c->off += c->proto == EBB_IPPROTO_AH ? (e.len + 2) * 4 : (e.len + 1) * 8;
		c->proto = e.next;
	}
	return false;
}

static __always_inline bool ebb_parse_ip6(struct __sk_buff *skb, struct ebb_packet *p,
					  struct ebb_cursor *c)
{
	struct ebb_ip6 ip;
	__u32 payload;

	if (bpf_skb_load_bytes(skb, c->off, &ip, sizeof(ip)) ||
	    (ip.version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return false;
	payload = bpf_ntohs(ip.payload_len);
	c->off += sizeof(ip);
	c->end = payload ? c->off + payload : skb->len;
	c->proto = ip.next;
	c->family = EBB_IP6;
	__builtin_memcpy(p->src6, ip.src, sizeof(p->src6));
	__builtin_memcpy(p->dst6, ip.dst, sizeof(p->dst6));
	return ebb_parse_extensions(skb, c);
}

/* Ports, flags, ICMP type and code, all within what the IP header covers. */
static __always_inline bool ebb_parse_transport(struct __sk_buff *skb, struct ebb_packet *p,
						struct ebb_cursor *c)
{
	struct ebb_transport t;
	__u8 icmp[2];
	__u16 length_flags;

	p->header = c->off;
	switch (c->proto) {
	case EBB_IPPROTO_TCP:
	case EBB_IPPROTO_UDP:
	case EBB_IPPROTO_UDPLITE:
	case EBB_IPPROTO_SCTP:
	case EBB_IPPROTO_DCCP:
		if (c->off + 4 > c->end || bpf_skb_load_bytes(skb, c->off, &t, 4))
			return false;
		p->sport = t.sport;
		p->dport = t.dport;
		break;
	case EBB_IPPROTO_ICMP:
	case EBB_IPPROTO_ICMPV6:
		/* ICMP of the other family is a protocol like any other. */
		if ((c->proto == EBB_IPPROTO_ICMP) != (c->family == EBB_IP4))
			return true;
		if (c->off + 2 > c->end || bpf_skb_load_bytes(skb, c->off, icmp, 2))
			return false;
		p->icmp_type = icmp[0];
		p->icmp_code = icmp[1];
		return true;
	default:
		return true;
	}
	if (c->proto == EBB_IPPROTO_TCP) {
		/* A first fragment may end before the flags: they are unknown then. */
		if (c->off + sizeof(t) > c->end || bpf_skb_load_bytes(skb, c->off, &t, sizeof(t)))
			return true;
		length_flags = bpf_ntohs(t.length_flags);
		p->flags = length_flags & EBB_TCP_FLAGS;
		p->header += ebb_tcp_len(length_flags);
	} else if (c->proto == EBB_IPPROTO_UDP) {
		p->header += 8;
	}
	return true;
}

/*
 * Fills p, of which only tags is set: the tag in the skb's metadata. A function
 * of its own: inlined, it would slow down the packets that do not need it.
 */
static __noinline int ebb_parse(struct __sk_buff *skb, struct ebb_packet *p, __u32 link)
{
	struct ebb_cursor c = {};
	struct ebb_fragment_key key;
	__u16 proto = 0;

	if (!skb || !p)
		return EBB_OTHER;
	p->sport = p->dport = p->flags = 0;
	p->icmp_type = p->icmp_code = 0;
	p->header = 0;
	if (!ebb_parse_link(skb, p, &c, link, &proto))
		return EBB_OTHER;
	if (proto == EBB_ETH_P_IP) {
		if (!ebb_parse_ip4(skb, p, &c))
			return EBB_OTHER;
	} else if (proto == EBB_ETH_P_IPV6) {
		if (!ebb_parse_ip6(skb, p, &c))
			return EBB_OTHER;
	} else {
		return EBB_OTHER;
	}
	if (!c.later && !ebb_parse_transport(skb, p, &c))
		return EBB_OTHER;
	if (c.later || c.first) {
		ebb_fragment_key(&key, skb, p, c.family, c.family == EBB_IP4 ? c.proto : 0, c.id);
		if (c.later)
			c.proto = ebb_fragment_recall(&key, p, c.proto);
		else
			ebb_fragment_remember(&key, p, c.proto);
	}
	p->tags |= c.proto;
	return c.family;
}

#endif
