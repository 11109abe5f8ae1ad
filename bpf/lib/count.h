/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_COUNT_H
#define EBB_COUNT_H

#include "clock.h"
#include "hint.h"
#include "key.h"
#include "maps.h"
#include "packet.h"
#include "replay.h"
#include "socket.h"
#include "source.h"
#include "tcp.h"
#include "tunables.h"
#include "types.h"

static __always_inline void ebb_add(__u64 *to, __u64 n)
{
	if (ebb_atomic)
		__sync_fetch_and_add(to, n);
	else
		*to += n;
}

static __always_inline void ebb_count(struct ebb_counter *to, const struct ebb_frame *f)
{
	ebb_add(&to->packets, f->packets);
	ebb_add(&to->bytes, f->bytes);
}

/* The slot of the interface's totals and how its frames begin; slot 0 if it is not attached. */
static __always_inline __u32 ebb_find_slot(__u32 ifindex, __u32 *link)
{
	/* Interfaces of other namespaces have the same few indices: EBB_PROBES apart. */
	__u32 slot = 1 + ((ifindex + ebb_netns * EBB_PROBES) & ebb_slot_mask);

	for (int i = 0; i < EBB_PROBES; i++, slot++) {
		struct ebb_point *point = bpf_map_lookup_elem(&ebb_points, &slot);

		if (point && point->ifindex == ifindex && point->netns == ebb_netns) {
			*link = point->link;
			return slot;
		}
	}
	*link = EBB_LINK_ETHERNET;
	return 0;
}

static __always_inline struct ebb_total *ebb_find_total(__u32 generation, __u32 cpu, __u32 slot,
							__u32 direction)
{
	__u32 index = ((generation * ebb_cpus + cpu) * ebb_slots + slot) * 2 + direction;

	return bpf_map_lookup_elem(&ebb_totals, &index);
}

static __always_inline void ebb_note_event(struct ebb_flow *flow, __u32 side, __u32 event,
					   __u64 now)
{
	__u64 units;

	if (side > 1 || event >= EBB_EVENTS || flow->event[side][event])
		return;
	units = ebb_units(flow, now);
	if (units <= flow->last_event)
		units = (__u64)flow->last_event + 1;
	if (units > 0xffffffff)
		units = 0xffffffff;
	flow->event[side][event] = units;
	flow->last_event = units;
}

static __always_inline void ebb_note_flags(struct ebb_flow *flow, __u32 side, __u16 flags,
					   __u64 now)
{
	if (flags & EBB_TCP_SYN)
		ebb_note_event(flow, side, flags & EBB_TCP_ACK ? EBB_SYNACK : EBB_SYN, now);
	if (flags & EBB_TCP_FIN)
		ebb_note_event(flow, side, EBB_FIN, now);
	if (flags & EBB_TCP_RST)
		ebb_note_event(flow, side, EBB_RST, now);
}

/* Notes when, by the coarse clock, and with which flags the side sent. */
static __always_inline void ebb_flow_flags(struct ebb_flow *flow, struct __sk_buff *skb,
					   const struct ebb_packet *p, __u32 side, __u64 coarse)
{
	__u16 fresh = p->flags & ~flow->flags[side];

	if ((p->flags & (EBB_TCP_SYN | EBB_TCP_FIN | EBB_TCP_RST)) || (fresh & EBB_TCP_ACK)) {
		__u64 now = ebb_now_precise(skb);

		ebb_note_flags(flow, side, p->flags, now);
		if ((fresh & EBB_TCP_ACK) && !(p->flags & (EBB_TCP_SYN | EBB_TCP_RST)))
			ebb_note_event(flow, side, EBB_ACK, now);
		flow->last_ns = now;
	} else {
		flow->last_ns = coarse;
	}
	if (fresh)
		flow->flags[side] |= fresh;
}

/* Adds the packet to an entry that exists. */
static __always_inline void ebb_flow_add(struct ebb_flow *flow, struct __sk_buff *skb,
					 const struct ebb_packet *p, const struct ebb_frame *f,
					 __u32 side)
{
	bool egress = f->direction == EBB_EGRESS;
	__u64 last = flow->last_ns, coarse = ebb_now_coarse(skb), before;

	side &= 1;
	if (ebb_replay)
		ebb_replay_earlier(flow, skb, p, side);
	before = flow->side[side].packets;
	if (ebb_health && p->flags)
		ebb_tcp_track(skb, flow, p, f->packets, side, coarse);
	if ((ebb_owner | ebb_health) &&
	    (before < EBB_ASKED || (egress && (p->flags & (EBB_TCP_FIN | EBB_TCP_RST)))))
		ebb_socket_note(skb, p, flow,
				side | egress << 1 | (__u32)f->ip6 << 2 | (__u32)!before << 3,
				f->place >> EBB_PLACE_SLOT);
	ebb_hint_note(skb, p, f, flow, side);
	ebb_count(&flow->side[side], f);
	if (egress)
		ebb_count(&flow->egress, f);
	ebb_flow_flags(flow, skb, p, side, coarse);
	if (ebb_replay && last > flow->last_ns)
		flow->last_ns = last;
}

/* Notes who began an entry or, with overflow, found no room for one. */
static __always_inline void ebb_warn(const struct ebb_packet *p, const struct ebb_frame *f,
				     bool overflow)
{
	ebb_feature_flow(f, overflow);
	ebb_source_note(p, f, overflow);
}

/* Counts a packet that has no entry. */
static __always_inline void ebb_overflow(const struct ebb_packet *p, const struct ebb_frame *f,
					 bool full)
{
	ebb_count(&f->total->overflow, f);
	ebb_add(full ? &f->total->full : &f->total->refused, f->packets);
	ebb_warn(p, f, true);
}

/* What an entry begins as. On the stack there is no room for it. */
static const struct ebb_flow ebb_blank = {};

/*
 * Makes an empty entry and returns it, or the one that another CPU just made
 * (shared entries only). Returns null after counting the packet as overflow.
 */
static __always_inline struct ebb_flow *ebb_flow_insert(struct __sk_buff *skb, void *flows,
							const void *key, const struct ebb_packet *p,
							const struct ebb_frame *f, __u32 side)
{
	struct ebb_flow *flow;
	int err; /* not long: before Linux 6.4 the upper half of the result is undefined */

	if (ebb_full[f->generation & 1]) {
		ebb_overflow(p, f, true);
		return 0;
	}
	err = bpf_map_update_elem(flows, key, &ebb_blank, BPF_NOEXIST);
	if (!err || err == -EBB_EEXIST) {
		flow = bpf_map_lookup_elem(flows, key);
		if (flow && !err) {
			flow->first_side = side;
			flow->first_direction = f->direction;
			flow->icmp_type = p->icmp_type;
			flow->icmp_code = p->icmp_code;
			flow->first_ns = ebb_now_precise(skb);
			ebb_warn(p, f, false);
		}
		if (flow)
			return flow;
	}
	/* EBUSY and ENOMEM pass; only E2BIG lasts until the generation is drained. */
	if (err == -EBB_E2BIG)
		ebb_full[f->generation & 1] = 1;
	ebb_overflow(p, f, err == -EBB_E2BIG);
	return 0;
}

static __always_inline void ebb_flow_count(struct __sk_buff *skb, void *flows, const void *key,
					   const struct ebb_packet *p, const struct ebb_frame *f,
					   __u32 side)
{
	struct ebb_flow *flow = bpf_map_lookup_elem(flows, key);

	if (!flow)
		flow = ebb_flow_insert(skb, flows, key, p, f, side);
	if (flow)
		ebb_flow_add(flow, skb, p, f, side);
}

static __always_inline void ebb_count4(struct __sk_buff *skb, const struct ebb_packet *p,
				       const struct ebb_frame *f)
{
	__u32 side = ebb_side4(p);
	__u32 generation = f->generation;
	void *flows = bpf_map_lookup_elem(&ebb_flows4, &generation);
	struct ebb_key4 key;

	if (!flows) { /* never: both slots are filled before the programs are attached */
		ebb_overflow(p, f, false);
		return;
	}
	key.a = side ? p->dst4 : p->src4;
	key.b = side ? p->src4 : p->dst4;
	ebb_key_rest(&key.rest, p, f, side);
	ebb_flow_count(skb, flows, &key, p, f, side);
}

static __always_inline void ebb_count6(struct __sk_buff *skb, const struct ebb_packet *p,
				       const struct ebb_frame *f)
{
	__u32 side = ebb_side6(p);
	__u32 generation = f->generation;
	void *flows = bpf_map_lookup_elem(&ebb_flows6, &generation);
	struct ebb_key6 key;

	if (!flows) {
		ebb_overflow(p, f, false);
		return;
	}
	__builtin_memcpy(key.a, side ? p->dst6 : p->src6, sizeof(key.a));
	__builtin_memcpy(key.b, side ? p->src6 : p->dst6, sizeof(key.b));
	ebb_key_rest(&key.rest, p, f, side);
	ebb_flow_count(skb, flows, &key, p, f, side);
}

#endif
