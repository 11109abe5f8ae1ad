/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_COUNT_H
#define EBB_COUNT_H

#include "maps.h"
#include "packet.h"
#include "tunables.h"
#include "types.h"

#define EBB_E2BIG  7
#define EBB_EEXIST 17

/* What accounting a packet needs to know beside its headers. */
struct ebb_frame {
	struct ebb_total *total;
	__u64 packets; /* on the wire: GSO segments */
	__u64 bytes;   /* on the wire */
	__u32 generation;
	__u32 direction;
	__u32 cpu; /* of the entry's key */
	__u32 ifindex;
};

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

static __always_inline __u64 ebb_now_precise(struct __sk_buff *skb)
{
	return ebb_packet_time ? skb->tstamp : bpf_ktime_get_ns();
}

static __always_inline __u64 ebb_now_coarse(struct __sk_buff *skb)
{
	return ebb_packet_time ? skb->tstamp : bpf_ktime_get_coarse_ns();
}

/* The slot of the interface's totals and how its frames begin; slot 0 if it is not attached. */
static __always_inline __u32 ebb_find_slot(__u32 ifindex, __u32 *link)
{
	__u32 slot = 1 + (ifindex & ebb_slot_mask);

	for (int i = 0; i < EBB_PROBES; i++, slot++) {
		struct ebb_point *point = bpf_map_lookup_elem(&ebb_points, &slot);

		if (point && point->ifindex == ifindex) {
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
	units = now > flow->first_ns ? 1 + ((now - flow->first_ns) >> 10) : 1;
	if (units <= flow->last_event)
		units = flow->last_event + 1;
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

/* Adds the packet to an entry that exists. */
static __always_inline void ebb_flow_add(struct ebb_flow *flow, struct __sk_buff *skb,
					 const struct ebb_packet *p, const struct ebb_frame *f,
					 __u32 side)
{
	side &= 1;
	ebb_count(&flow->side[side], f);
	if (f->direction == EBB_EGRESS)
		ebb_count(&flow->egress, f);
	if (p->flags & (EBB_TCP_SYN | EBB_TCP_FIN | EBB_TCP_RST)) {
		__u64 now = ebb_now_precise(skb);

		ebb_note_flags(flow, side, p->flags, now);
		flow->last_ns = now;
	} else {
		flow->last_ns = ebb_now_coarse(skb);
	}
	if (p->flags & ~flow->flags[side])
		flow->flags[side] |= p->flags;
}

/* Counts a packet that has no entry. */
static __always_inline void ebb_overflow(const struct ebb_frame *f, bool full)
{
	ebb_count(&f->total->overflow, f);
	ebb_add(full ? &f->total->full : &f->total->refused, f->packets);
}

/*
 * Makes an empty entry and returns it, or the one that another CPU just made
 * (shared entries only). Returns null after counting the packet as overflow.
 */
static __always_inline struct ebb_flow *ebb_flow_insert(struct __sk_buff *skb, void *flows,
							const void *key, const struct ebb_packet *p,
							const struct ebb_frame *f, __u32 side)
{
	struct ebb_flow fresh = {
		.first_side = side,
		.first_direction = f->direction,
		.icmp_type = p->icmp_type,
		.icmp_code = p->icmp_code,
	};
	struct ebb_flow *flow;
	int err; /* not long: before Linux 6.4 the upper half of the result is undefined */

	if (ebb_full[f->generation & 1]) {
		ebb_overflow(f, true);
		return 0;
	}
	fresh.first_ns = ebb_now_precise(skb);
	err = bpf_map_update_elem(flows, key, &fresh, BPF_NOEXIST);
	if (!err || err == -EBB_EEXIST) {
		flow = bpf_map_lookup_elem(flows, key);
		if (flow)
			return flow;
	}
	/* EBUSY and ENOMEM pass; only E2BIG lasts until the generation is drained. */
	if (err == -EBB_E2BIG)
		ebb_full[f->generation & 1] = 1;
	ebb_overflow(f, err == -EBB_E2BIG);
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

static __always_inline void ebb_key_rest(struct ebb_rest *rest, const struct ebb_packet *p,
					 const struct ebb_frame *f, __u32 side)
{
	rest->a_port = side ? p->dport : p->sport;
	rest->b_port = side ? p->sport : p->dport;
	rest->ifindex = f->ifindex;
	rest->tags = p->tags;
	rest->cpu = f->cpu;
}

static __always_inline void ebb_count4(struct __sk_buff *skb, const struct ebb_packet *p,
				       const struct ebb_frame *f)
{
	__u32 src = bpf_ntohl(p->src4), dst = bpf_ntohl(p->dst4);
	__u32 side = src > dst || (src == dst && bpf_ntohs(p->sport) > bpf_ntohs(p->dport));
	__u32 generation = f->generation;
	void *flows = bpf_map_lookup_elem(&ebb_flows4, &generation);
	struct ebb_key4 key;

	if (!flows) { /* never: both slots are filled before the programs are attached */
		ebb_overflow(f, false);
		return;
	}
	key.a = side ? p->dst4 : p->src4;
	key.b = side ? p->src4 : p->dst4;
	ebb_key_rest(&key.rest, p, f, side);
	ebb_flow_count(skb, flows, &key, p, f, side);
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

static __always_inline void ebb_count6(struct __sk_buff *skb, const struct ebb_packet *p,
				       const struct ebb_frame *f)
{
	int order = ebb_compare6(p->src6, p->dst6);
	__u32 side = order > 0 || (order == 0 && bpf_ntohs(p->sport) > bpf_ntohs(p->dport));
	__u32 generation = f->generation;
	void *flows = bpf_map_lookup_elem(&ebb_flows6, &generation);
	struct ebb_key6 key;

	if (!flows) {
		ebb_overflow(f, false);
		return;
	}
	__builtin_memcpy(key.a, side ? p->dst6 : p->src6, sizeof(key.a));
	__builtin_memcpy(key.b, side ? p->src6 : p->dst6, sizeof(key.b));
	ebb_key_rest(&key.rest, p, f, side);
	ebb_flow_count(skb, flows, &key, p, f, side);
}

#endif
