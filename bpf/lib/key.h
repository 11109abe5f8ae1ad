/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_KEY_H
#define EBB_KEY_H

#include "packet.h"
#include "types.h"

/* What accounting a packet needs to know beside its headers. */
struct ebb_frame {
	struct ebb_total *total;
	__u64 packets; /* on the wire: GSO segments */
	__u64 bytes;   /* on the wire */
	__u32 generation;
	__u32 direction;
	__u32 place; /* of the entry's key, without tunnel */
	bool ip6;
};

static __always_inline void ebb_key_rest(struct ebb_rest *rest, const struct ebb_packet *p,
					 const struct ebb_frame *f, __u32 side)
{
	rest->a_port = side ? p->dport : p->sport;
	rest->b_port = side ? p->sport : p->dport;
	rest->place = f->place | (__u32)p->tunnel << EBB_PLACE_TUNNEL;
	rest->tags = p->tags;
	rest->tunnel = p->tunnel_id;
}

/* Compares addresses as numbers: below 0, 0 or above 0, like memcmp. */
static __always_inline int ebb_compare6(const __u64 *s, const __u64 *d)
{
	__u64 s0 = bpf_be64_to_cpu(s[0]), d0 = bpf_be64_to_cpu(d[0]);
	__u64 s1 = bpf_be64_to_cpu(s[1]), d1 = bpf_be64_to_cpu(d[1]);

	if (s0 != d0)
		return s0 > d0 ? 1 : -1;
	if (s1 != d1)
		return s1 > d1 ? 1 : -1;
	return 0;
}

/* 1 if the sender is the higher endpoint, which is b; else 0. */
static __always_inline __u32 ebb_side4(const struct ebb_packet *p)
{
	__u32 src = bpf_ntohl(p->src4), dst = bpf_ntohl(p->dst4);

	return src > dst || (src == dst && bpf_ntohs(p->sport) > bpf_ntohs(p->dport));
}

static __always_inline __u32 ebb_side6(const struct ebb_packet *p)
{
	int order = ebb_compare6(p->src6, p->dst6);

	return order > 0 || (order == 0 && bpf_ntohs(p->sport) > bpf_ntohs(p->dport));
}

#endif
