/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_FRAGMENT_H
#define EBB_FRAGMENT_H

#include "maps.h"
#include "packet.h"

/*
 * Only the first fragment of a datagram has a transport header. It leaves its
 * ports here, under (source, destination, id), for the fragments after it, so
 * that all of them belong to one flow. A later fragment that comes first or
 * whose datagram was forgotten is recorded without ports: what stands where a
 * transport header would be is payload, never a port.
 */

/* The key; family is EBB_IP4 or EBB_IP6, and proto 0 for IPv6. */
static __always_inline void ebb_fragment_key(struct ebb_fragment_key *key, struct __sk_buff *skb,
					     struct ebb_packet *p, enum ebb_verdict family,
					     __u8 proto, __u32 id)
{
	__builtin_memset(key, 0, sizeof(*key));
	if (family == EBB_IP4) {
		key->src[0] = p->src4;
		key->dst[0] = p->dst4;
	} else {
		__builtin_memcpy(key->src, p->src6, sizeof(key->src));
		__builtin_memcpy(key->dst, p->dst6, sizeof(key->dst));
	}
	key->id = id;
	key->ifindex = skb->ifindex;
	key->tags = p->tags | proto;
}

static __always_inline void ebb_fragment_remember(struct ebb_fragment_key *key,
						  struct ebb_packet *p, __u8 proto)
{
	struct ebb_fragment f = {.sport = p->sport, .dport = p->dport, .proto = proto};

	/* A failure costs the later fragments their ports, no count. */
	bpf_map_update_elem(&ebb_fragments, key, &f, BPF_ANY);
}

/* Completes p for a later fragment, whose header claims proto; returns the real one. */
static __always_inline __u8 ebb_fragment_recall(struct ebb_fragment_key *key, struct ebb_packet *p,
						__u8 proto)
{
	struct ebb_fragment *f = bpf_map_lookup_elem(&ebb_fragments, key);

	if (!f)
		return proto;
	p->sport = f->sport;
	p->dport = f->dport;
	return f->proto;
}

#endif
