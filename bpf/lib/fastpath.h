/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_FASTPATH_H
#define EBB_FASTPATH_H

#include "packet.h"
#include "tunables.h"

/*
 * The headers that nearly all packets have, by direct access: Ethernet, no tag
 * in the data, IPv4 without options or IPv6 without extension headers, no
 * fragment, TCP or UDP, all of it in the linear part of the skb; and the same
 * inside a VXLAN or Geneve tunnel. Everything else is left to ebb_parse, which
 * gives the same result for these packets too: a test holds one against the other.
 *
 * A length of zero in the IP header is a packet of more than 64 KiB ("BIG TCP").
 */

/* A UDP datagram to the port of a tunnel. */
struct ebb_datagram {
	__u32 off;  /* of the UDP header */
	__s32 room; /* bytes from there to where the IP packet says that it ends */
	__u32 kind; /* enum ebb_tunnel, none: it is no such datagram */
};

static __always_inline bool ebb_fast_tcp(struct ebb_packet *p, struct ebb_transport *t, void *end,
					 __u32 off, __s32 room)
{
	__u16 length_flags;
	__s32 len;

	if ((void *)(t + 1) > end || room < (__s32)sizeof(*t))
		return false;
	length_flags = bpf_ntohs(t->length_flags);
	len = ebb_tcp_len(length_flags);
	p->flags = length_flags & EBB_TCP_FLAGS;
	p->window = bpf_ntohs(t->window);
	p->seq = bpf_ntohl(t->seq);
	p->ack = bpf_ntohl(t->ack);
	p->header = off + len;
	p->payload_len = room > len ? room - len : 0;
	p->sport = t->sport;
	p->dport = t->dport;
	p->tags |= EBB_IPPROTO_TCP;
	return true;
}

static __always_inline bool ebb_fast_udp(struct ebb_packet *p, struct ebb_transport *t, void *end,
					 __u32 off, __s32 room, struct ebb_datagram *d)
{
	if ((void *)t + 8 > end || room < 8)
		return false;
	d->kind = ebb_udp_tunnel_kind(bpf_ntohs(t->dport));
	if (d->kind) {
		d->off = off;
		d->room = room;
		return false;
	}
	p->flags = p->window = 0;
	p->seq = p->ack = 0;
	p->header = off + 8;
	p->payload_len = room - 8;
	p->sport = t->sport;
	p->dport = t->dport;
	p->tags |= EBB_IPPROTO_UDP;
	return true;
}

static __always_inline enum ebb_verdict ebb_fast_transport(struct ebb_packet *p, void *l4,
							   void *end, __u8 proto, __u32 off,
							   __s32 room, enum ebb_verdict family,
							   struct ebb_datagram *d)
{
	p->tunnel = EBB_TUNNEL_NONE;
	p->family = family;
	p->icmp_type = 0;
	p->icmp_code = 0;
	p->tunnel_id = 0;
	p->reason = EBB_REASON_NONE;
	if (proto == EBB_IPPROTO_TCP)
		return ebb_fast_tcp(p, l4, end, off, room) ? family : EBB_OTHER;
	if (proto == EBB_IPPROTO_UDP)
		return ebb_fast_udp(p, l4, end, off, room, d) ? family : EBB_OTHER;
	return EBB_OTHER;
}

/*
 * The packet at l3, off bytes into the frame, with the EtherType before it;
 * limit is how many bytes the packet around it leaves to it.
 */
static __always_inline enum ebb_verdict ebb_fast_ip(struct __sk_buff *skb, struct ebb_packet *p,
						    void *l3, void *end, __be16 type, __u32 off,
						    __s32 limit, struct ebb_datagram *d)
{
	__s32 len;

	if (l3 + sizeof(struct ebb_ip4) > end)
		return EBB_OTHER;
	if (type == bpf_htons(EBB_ETH_P_IP)) {
		struct ebb_ip4 *ip = l3;

		if (ip->version_ihl != 0x45 ||
		    (ip->fragment & bpf_htons(EBB_IP4_MORE | EBB_IP4_OFFSET)))
			return EBB_OTHER;
		len = bpf_ntohs(ip->total_len);
		if (!len)
			len = ebb_frame_len(skb) - off;
		if (len > limit)
			len = limit;
		p->src4 = ip->src;
		p->dst4 = ip->dst;
		return ebb_fast_transport(p, ip + 1, end, ip->proto, off + sizeof(*ip),
					  len - (__s32)sizeof(*ip), EBB_IP4, d);
	}
	if (type == bpf_htons(EBB_ETH_P_IPV6)) {
		struct ebb_ip6 *ip = l3;

		if ((void *)(ip + 1) > end ||
		    (ip->version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
			return EBB_OTHER;
		len = bpf_ntohs(ip->payload_len);
		if (!len)
			len = ebb_frame_len(skb) - off - sizeof(*ip);
		if (len > limit - (__s32)sizeof(*ip))
			len = limit - (__s32)sizeof(*ip);
		__builtin_memcpy(p->src6, ip->src, 16);
		__builtin_memcpy(p->dst6, ip->dst, 16);
		return ebb_fast_transport(p, ip + 1, end, ip->next, off + sizeof(*ip), len, EBB_IP6,
					  d);
	}
	return EBB_OTHER;
}

/* The packet inside a tunnel's datagram. A function of its own, out of the way of the others. */
static __noinline int ebb_fast_inside(struct __sk_buff *skb, struct ebb_packet *p, __u32 off,
				      __s32 room, __u32 kind)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ebb_udp_tunnel *t = data + off;
	struct ebb_datagram nested = {};
	struct ebb_eth *eth;
	__u32 options = 0;
	int verdict;

	if ((void *)(t + 1) > end)
		return EBB_OTHER;
	if (kind == EBB_TUNNEL_VXLAN) {
		if ((t->flags & (EBB_VXLAN_ID | EBB_VXLAN_GENERIC)) != EBB_VXLAN_ID)
			return EBB_OTHER;
	} else {
		if ((t->flags & EBB_GENEVE_VERSION) || (t->control & EBB_GENEVE_CONTROL) ||
		    t->proto != bpf_htons(EBB_ETH_P_TEB))
			return EBB_OTHER;
		options = (t->flags & EBB_GENEVE_OPTIONS) * 4;
	}
	eth = (void *)(t + 1) + options;
	if ((void *)(eth + 1) > end)
		return EBB_OTHER;
	off += sizeof(*t) + options + sizeof(*eth);
	room -= sizeof(*t) + options + sizeof(*eth);
	verdict = ebb_fast_ip(skb, p, eth + 1, end, eth->proto, off, room, &nested);
	p->tunnel = kind;
	p->tunnel_id = bpf_ntohl(t->vni) >> 8;
	return verdict;
}

/* Returns EBB_OTHER, with p->tags as it was, if the packet is not one of those. */
static __always_inline enum ebb_verdict ebb_parse_fast(struct __sk_buff *skb, struct ebb_packet *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ebb_datagram d = {};
	struct ebb_eth *eth = data;
	enum ebb_verdict verdict;

	if ((void *)(eth + 1) > end)
		return EBB_OTHER;
	verdict = ebb_fast_ip(skb, p, eth + 1, end, eth->proto, sizeof(*eth), 0x7fffffff, &d);
	if (d.kind)
		verdict = ebb_fast_inside(skb, p, d.off, d.room, d.kind);
	return verdict;
}

#endif
