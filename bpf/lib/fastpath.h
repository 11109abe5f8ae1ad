/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_FASTPATH_H
#define EBB_FASTPATH_H

#include "packet.h"
#include "tunables.h"

/*
 * The headers that nearly all packets have, by direct access: Ethernet, no tag
 * in the data, IPv4 without options or IPv6 without extension headers, no
 * fragment, TCP or UDP, all of it in the linear part of the skb. Everything else is left
 * to ebb_parse, which gives the same result for these packets too: a test
 * holds one against the other.
 *
 * A length of zero in the IP header is a packet of more than 64 KiB ("BIG TCP").
 */

static __always_inline bool ebb_fast_ports(struct ebb_packet *p, void *l4, void *end, __u8 proto,
					   __s32 room)
{
	struct ebb_transport *t = l4;

	if (proto == EBB_IPPROTO_TCP) {
		__u16 length_flags;

		if (l4 + sizeof(*t) > end || room < (__s32)sizeof(*t))
			return false;
		length_flags = bpf_ntohs(t->length_flags);
		p->flags = length_flags & EBB_TCP_FLAGS;
		p->header += ebb_tcp_len(length_flags);
	} else if (proto == EBB_IPPROTO_UDP) {
		if (l4 + 8 > end || room < 8)
			return false;
		p->flags = 0;
		p->header += 8;
	} else {
		return false;
	}
	p->sport = t->sport;
	p->dport = t->dport;
	p->tags |= proto;
	p->icmp_type = 0;
	p->icmp_code = 0;
	return true;
}

/* Returns EBB_OTHER, with p->tags as it was, if the packet is not one of those. */
static __always_inline enum ebb_verdict ebb_parse_fast(struct __sk_buff *skb, struct ebb_packet *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ebb_eth *eth = data;

	if (data + EBB_ETH_LEN + sizeof(struct ebb_ip4) > end)
		return EBB_OTHER;
	if (eth->proto == bpf_htons(EBB_ETH_P_IP)) {
		struct ebb_ip4 *ip = data + EBB_ETH_LEN;
		__s32 total = bpf_ntohs(ip->total_len);

		if (ip->version_ihl != 0x45 ||
		    (ip->fragment & bpf_htons(EBB_IP4_MORE | EBB_IP4_OFFSET)))
			return EBB_OTHER;
		p->header = EBB_ETH_LEN + sizeof(*ip);
		if (!ebb_fast_ports(p, ip + 1, end, ip->proto,
				    total ? total - (__s32)sizeof(*ip) : 0xffff))
			return EBB_OTHER;
		p->src4 = ip->src;
		p->dst4 = ip->dst;
		return EBB_IP4;
	}
	if (eth->proto == bpf_htons(EBB_ETH_P_IPV6)) {
		struct ebb_ip6 *ip = data + EBB_ETH_LEN;
		__s32 payload;

		if ((void *)(ip + 1) > end)
			return EBB_OTHER;
		payload = bpf_ntohs(ip->payload_len);
		if ((ip->version_class_label & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
			return EBB_OTHER;
		p->header = EBB_ETH_LEN + sizeof(*ip);
		if (!ebb_fast_ports(p, ip + 1, end, ip->next, payload ? payload : 0xffff))
			return EBB_OTHER;
		__builtin_memcpy(p->src6, ip->src, 16);
		__builtin_memcpy(p->dst6, ip->dst, 16);
		return EBB_IP6;
	}
	return EBB_OTHER;
}

#endif
