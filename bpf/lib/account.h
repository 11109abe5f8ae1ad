/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_ACCOUNT_H
#define EBB_ACCOUNT_H

#include "count.h"
#include "fastpath.h"
#include "parse.h"

/* One packet in so many is timed. A power of two. */
#define EBB_TIMED 256

/*
 * A super-packet is several packets on the wire. Counts those beyond the first,
 * and the headers that each of them repeats, to what was seen and to the frame.
 *
 * gso_segs is 0 for packets that come from a virtual machine; then the number
 * follows from gso_size, as the kernel computes it when it splits the packet.
 * On egress the kernel says in wire_len what it will repeat. It knows better where
 * p ends before the innermost header (a tunnel that is not looked into, say); and
 * worse inside of tunnels on older kernels (6.1), where it takes the outermost
 * transport header for TCP's.
 */
static __always_inline void ebb_expand(struct __sk_buff *skb, const struct ebb_packet *p,
				       struct ebb_frame *f, __u32 tag)
{
	__u32 segs = skb->gso_segs, size = skb->gso_size;
	__u64 packets, bytes, kernels;

	if (!segs && size && skb->len > p->header)
		segs = (skb->len - p->header + size - 1) / size;
	if (segs < 2)
		return;
	packets = segs - 1;
	bytes = packets * p->header;
	if (f->direction == EBB_EGRESS && skb->wire_len > skb->len && !p->flags) {
		kernels = skb->wire_len - skb->len;
		if (bytes < kernels)
			bytes = kernels;
	}
	bytes += packets * tag;
	ebb_add(&f->total->seen.packets, packets);
	ebb_add(&f->total->seen.bytes, bytes);
	f->packets += packets;
	f->bytes += bytes;
}

static __always_inline void ebb_count_reason(__u32 *to, const struct ebb_packet *p,
					     const struct ebb_frame *f)
{
	__u32 reason = p->reason - 1;

	if (reason >= EBB_TOTAL_REASONS)
		return;
	if (ebb_atomic)
		__sync_fetch_and_add(&to[reason], (__u32)f->packets);
	else
		to[reason] += f->packets;
}

/* Parses a frame, and counts it to what was seen, with all its segments. */
static __always_inline enum ebb_verdict ebb_read(struct __sk_buff *skb, struct ebb_packet *p,
						 struct ebb_frame *f, __u32 link, __u32 tag)
{
	enum ebb_verdict verdict = EBB_OTHER;

	p->tags = tag ? ebb_push_tag(0, 0, skb->vlan_tci) : 0;
	if (ebb_fast_path && link == EBB_LINK_ETHERNET)
		verdict = ebb_parse_fast(skb, p);
	if (verdict == EBB_OTHER)
		verdict = ebb_parse(skb, p, link);
	if (skb->gso_size)
		ebb_expand(skb, p, f, tag);
	return verdict;
}

/* Sampling leaves out this packet. Each packet has the same chance, whatever it is. */
static __always_inline bool ebb_skip(const struct ebb_frame *f)
{
	__u32 mask = *(volatile __u32 *)&ebb_sample_mask[f->generation & 1];

	return mask && (bpf_get_prandom_u32() & mask);
}

/*
 * Accounts one packet: seen = recorded + overflow + other + skipped, to the
 * byte, where recorded is the sum over the entries of the generation.
 */
static __always_inline void ebb_account_frame(struct __sk_buff *skb, struct ebb_frame *f,
					      __u32 link, __u32 tag)
{
	struct ebb_packet packet;
	enum ebb_verdict verdict;

	if (ebb_skip(f)) {
		if (skb->gso_size) /* how many packets it is stands in its headers */
			ebb_read(skb, &packet, f, link, tag);
		ebb_count(&f->total->skipped, f);
		return;
	}
	verdict = ebb_read(skb, &packet, f, link, tag);
	f->ip6 = verdict == EBB_IP6;
	ebb_feature_note(skb, f, &packet, verdict);
	if (verdict == EBB_OTHER) {
		ebb_count(&f->total->other, f);
		ebb_count_reason(f->total->reasons, &packet, f);
		return;
	}
	if (packet.reason)
		ebb_count_reason(f->total->unread, &packet, f);
	if (verdict == EBB_IP4)
		ebb_count4(skb, &packet, f);
	else
		ebb_count6(skb, &packet, f);
}

static __always_inline void ebb_account(struct __sk_buff *skb, __u32 direction)
{
	__u32 generation = *(volatile __u32 *)&ebb_generation & 1;
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 tag = skb->vlan_present ? EBB_VLAN_LEN : 0;
	__u32 link, slot = ebb_find_slot(skb->ifindex, &link);
	struct ebb_frame frame = {
		.packets = 1,
		.bytes = ebb_replay ? skb->mark : skb->len + tag,
		.generation = generation,
		.direction = direction,
		.place = (ebb_atomic ? 0 : cpu & 0xffff) | slot << EBB_PLACE_SLOT,
	};
	__u32 runs = skb->gso_size ? skb->gso_segs : 1;
	__u64 begin = 0;

	frame.total = ebb_find_total(generation, cpu, slot, direction);
	if (!frame.total) /* never: user space sized the array for every CPU and slot */
		return;
	/*
	 * Times a packet that takes the count over a multiple of EBB_TIMED: one of n
	 * segments does so with a probability of n / EBB_TIMED, and weighs the inverse.
	 */
	if (!runs)
		runs = 1;
	if ((frame.total->seen.packets & (EBB_TIMED - 1)) + runs >= EBB_TIMED)
		begin = bpf_ktime_get_ns();
	ebb_count(&frame.total->seen, &frame);
	ebb_account_frame(skb, &frame, link, tag);
	if (begin)
		ebb_add(&frame.total->run_ns, (bpf_ktime_get_ns() - begin) * EBB_TIMED /
						      (runs < EBB_TIMED ? runs : EBB_TIMED));
}

#endif
