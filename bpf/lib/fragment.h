/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_FRAGMENT_H
#define EBB_FRAGMENT_H

#include "maps.h"
#include "packet.h"

/*
 * Only the first fragment of a datagram has a transport header. It leaves its
 * flow here, under (source, destination, id), for the fragments after it, so
 * that all of them belong to one flow. A later fragment that comes first or
 * whose datagram was forgotten is recorded without ports: what stands where a
 * transport header would be is payload, never a port.
 *
 * Where the datagram is a tunnel's, its flow is that of the packet inside, and
 * so is that of its later fragments. A packet inside that is a fragment itself
 * is looked up in the same way, under its own addresses and the tunnel's id.
 */

/* What the key of a fragment is made of. */
struct ebb_mark {
	__u32 off; /* of the IP header */
	__u32 id;
	__u32 tunnel_id;
	__u8 tunnel;
	__u8 family;
	__u8 proto; /* IPv4: the header's, as the later fragments do not tell another */
	__u8 first; /* 1: of a first fragment; 0: nothing to remember */
};

/* False if the header cannot be read, which it was just before. */
static __always_inline bool ebb_fragment_key(struct ebb_fragment_key *key, struct __sk_buff *skb,
					     const struct ebb_packet *p, const struct ebb_mark *m)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->id = m->id;
	key->ifindex = skb->ifindex;
	key->tags = p->tags & ~0xff;
	key->tunnel_id = m->tunnel_id;
	key->tunnel = m->tunnel;
	if (m->family == EBB_IP6)
		return !bpf_skb_load_bytes(skb, m->off + __builtin_offsetof(struct ebb_ip6, src),
					   key->src, sizeof(key->src) + sizeof(key->dst));
	key->tags |= m->proto;
	return !bpf_skb_load_bytes(skb, m->off + __builtin_offsetof(struct ebb_ip4, src), key->src,
				   4) &&
	       !bpf_skb_load_bytes(skb, m->off + __builtin_offsetof(struct ebb_ip4, dst), key->dst,
				   4);
}

/*
 * Keeps the flow of p for the later fragments. A failure costs them their ports, no count.
 * No global function: Linux 6.1 refuses to copy a map's value from what the argument of
 * one points to, and there is no room on the stack for a copy.
 */
static __noinline int ebb_fragment_remember(struct __sk_buff *skb, struct ebb_packet *p,
					    struct ebb_mark *m)
{
	struct ebb_fragment_key key;

	if (ebb_fragment_key(&key, skb, p, m))
		bpf_map_update_elem(&ebb_fragments, &key, &p->flow, BPF_ANY);
	return 0;
}

/* Completes p, a later fragment; returns 0 if its datagram is not known. */
__noinline int ebb_fragment_recall(struct __sk_buff *skb, struct ebb_packet *p, struct ebb_mark *m)
{
	struct ebb_fragment_key key;
	struct ebb_fragment *f;

	if (!p || !m || !ebb_fragment_key(&key, skb, p, m))
		return 0;
	f = bpf_map_lookup_elem(&ebb_fragments, &key);
	if (!f)
		return 0;
	p->flow = *f;
	return 1;
}

#endif
