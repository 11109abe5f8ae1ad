/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_SOURCE_H
#define EBB_SOURCE_H

#include "feature.h"
#include "maps.h"
#include "packet.h"
#include "tunables.h"
#include "warning_maps.h"

/*
 * Who sends to many targets, and whose packets found no room in the flow map.
 * Asked for when a packet makes an entry or finds no room for one, never for a
 * packet of an entry that exists.
 */

#define EBB_SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

struct ebb_sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline void ebb_sip_round(struct ebb_sip *s)
{
	s->v0 += s->v1;
	s->v1 = EBB_SIP_ROTATE(s->v1, 13) ^ s->v0;
	s->v0 = EBB_SIP_ROTATE(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = EBB_SIP_ROTATE(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = EBB_SIP_ROTATE(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = EBB_SIP_ROTATE(s->v1, 17) ^ s->v2;
	s->v2 = EBB_SIP_ROTATE(s->v2, 32);
}

static __always_inline void ebb_sip_word(struct ebb_sip *s, __u64 word)
{
	s->v3 ^= word;
	ebb_sip_round(s);
	s->v0 ^= word;
}

/* Who sent to whom; what a global function takes must be initialised to the last byte. */
struct ebb_contact {
	__u64 source[2]; /* a struct ebb_source_key */
	__u64 target[3]; /* address; protocol, port, and 1 for IPv6 */
	__u64 packets;	 /* of overflow, 0 if an entry was made */
	__u64 bytes;
	__u32 generation;
	__u32 begins; /* its sender chose the target */
};

/*
 * SipHash-1-3 (Aumasson and Bernstein 2012) of the target, with the source
 * before it if pair. All hashes of one sketch are of as many words.
 */
static __always_inline __u64 ebb_contact_hash(const struct ebb_contact *c, bool pair)
{
	__u64 k0 = ebb_sketch_seed[0], k1 = ebb_sketch_seed[1];
	struct ebb_sip s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};

	if (pair) {
		ebb_sip_word(&s, c->source[0]);
		ebb_sip_word(&s, c->source[1]);
	}
	ebb_sip_word(&s, c->target[0]);
	ebb_sip_word(&s, c->target[1]);
	ebb_sip_word(&s, c->target[2]);
	s.v2 ^= 0xff;
	ebb_sip_round(&s);
	ebb_sip_round(&s);
	ebb_sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/*
 * Whether the packet may be the first of a conversation, so that where it goes
 * is a target that its sender chose. All packets of TCP after the first have
 * ACK, those that refuse have RST: without this, a server whose answers are sent
 * by another CPU than the questions came to would look like a scanner of its
 * clients, and so would one with connections from before the interval.
 */
static __always_inline bool ebb_begins(const struct ebb_packet *p)
{
	return (__u8)p->tags != EBB_IPPROTO_TCP || !(p->flags & (EBB_TCP_ACK | EBB_TCP_RST));
}

/*
 * Adds to a HyperLogLog sketch (Flajolet et al. 2007): the lowest bits of the
 * hash choose a register, which keeps the greatest number of zeros, plus one,
 * that the bits above them began with. CPUs share the registers without locks:
 * an addition that is lost to a race lowers one register for a moment.
 */
static __always_inline void ebb_sketch_add(struct ebb_source *s, __u64 hash)
{
	__u64 rest = hash / EBB_SKETCH | 1ull << 56;
	__u8 *r = &s->registers[hash % EBB_SKETCH];
	__u32 rank = *r & 63;

	if (rest << 1 << (63 - rank)) /* a bit below: no more zeros than the register knows */
		return;
	*r = 1 + ebb_log2(rest & -rest);
}

/* The row for what has no room among the sources. */
static __always_inline struct ebb_source *ebb_crowd_find(__u32 generation)
{
	__u32 index = generation * ebb_cpus + bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&ebb_crowd, &index);
}

/* The source's entry, a new one if need be, or null if there is no room. */
static __always_inline struct ebb_source *ebb_source_find(const struct ebb_source_key *key,
							  __u32 generation)
{
	void *sources = bpf_map_lookup_elem(&ebb_sources, &generation);
	struct ebb_source *s;
	int err;

	if (!sources) /* never: both slots are filled before the programs are attached */
		return 0;
	s = bpf_map_lookup_elem(sources, key);
	if (s || ebb_sources_full[generation & 1])
		return s;
	err = bpf_map_update_elem(sources, key, (const void *)&ebb_source_empty, BPF_NOEXIST);
	if (err == -EBB_E2BIG)
		ebb_sources_full[generation & 1] = 1;
	return bpf_map_lookup_elem(sources, key);
}

/*
 * Notes a contact. Overflow is added atomically: its sum over the sources and
 * the crowd is that over the attach points, to the byte. Not static: the
 * verifier looks at it once.
 */
__noinline __weak int ebb_contact_note(const struct ebb_contact *c)
{
	struct ebb_source_key key;
	struct ebb_source *s;
	__u32 generation;
	bool crowd;

	if (!c)
		return 0;
	generation = c->generation & 1;
	__builtin_memcpy(&key, c->source, sizeof(key));
	s = ebb_source_find(&key, generation);
	crowd = !s;
	if (crowd)
		s = ebb_crowd_find(generation);
	if (!s) /* never: user space sized the array for every CPU */
		return 0;
	if (c->packets) {
		__sync_fetch_and_add(&s->overflow.packets, c->packets);
		__sync_fetch_and_add(&s->overflow.bytes, c->bytes);
	} else {
		__sync_fetch_and_add(&s->flows, 1);
	}
	if (c->begins)
		ebb_sketch_add(s, ebb_contact_hash(c, crowd));
	return 0;
}

/*
 * Notes the sender of a packet that made an entry or, with overflow, found no
 * room for one. Not inlined: the stack of what calls it is nearly full.
 */
static __noinline int ebb_source_note(const struct ebb_packet *p, const struct ebb_frame *f,
				      bool overflow)
{
	struct ebb_contact c = {
		.target[2] = (__u64)f->ip6 << 32 | (__u64)p->dport << 8 | (__u8)p->tags,
		.packets = overflow ? f->packets : 0,
		.bytes = f->bytes,
		.generation = f->generation,
		.begins = ebb_begins(p),
	};

	if (f->ip6) {
		__builtin_memcpy(c.source, p->src6, sizeof(c.source));
		__builtin_memcpy(c.target, p->dst6, sizeof(p->dst6));
	} else {
		c.source[1] = (__u64)bpf_htonl(0xffff) | (__u64)p->src4 << 32;
		c.target[0] = p->dst4;
	}
	return ebb_contact_note(&c);
}

#endif
