/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_ACCOUNT_H
#define EBB_ACCOUNT_H

#include "count.h"
#include "fastpath.h"
#include "parse.h"

/*
 * A super-packet is several packets on the wire. Counts those beyond the first,
 * and the headers that each of them repeats, to what was seen and to the frame.
 *
 * gso_segs is 0 for packets that come from a virtual machine; then the number
 * follows from gso_size, as the kernel computes it when it splits the packet.
 * On egress the kernel knows better what it will repeat (tunnel headers, say),
 * and says so in wire_len.
 */
static __always_inline void ebb_expand(struct __sk_buff *skb, const struct ebb_packet *p,
				       struct ebb_frame *f, __u32 tag)
{
	__u32 segs = skb->gso_segs, size = skb->gso_size;
	__u64 packets, bytes;

	if (!segs && size && skb->len > p->header)
		segs = (skb->len - p->header + size - 1) / size;
	if (segs < 2)
		return;
	packets = segs - 1;
	bytes = packets * tag;
	if (f->direction == EBB_EGRESS && skb->wire_len > skb->len)
		bytes += skb->wire_len - skb->len;
	else
		bytes += packets * p->header;
	ebb_add(&f->total->seen.packets, packets);
	ebb_add(&f->total->seen.bytes, bytes);
	f->packets += packets;
	f->bytes += bytes;
}

/*
 * Accounts one packet: seen = recorded + overflow + other, to the byte, where
 * recorded is the sum over the entries of the generation.
 */
static __always_inline void ebb_account(struct __sk_buff *skb, __u32 direction)
{
	__u32 generation = *(volatile __u32 *)&ebb_generation & 1;
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 tag = skb->vlan_present ? EBB_VLAN_LEN : 0;
	struct ebb_frame frame = {
		.packets = 1,
		.bytes = skb->len + tag,
		.generation = generation,
		.direction = direction,
		.cpu = ebb_atomic ? 0 : cpu,
	};
	struct ebb_packet packet;
	enum ebb_verdict verdict = EBB_OTHER;
	__u32 link, slot = ebb_find_slot(skb->ifindex, &link);

	frame.ifindex = slot ? skb->ifindex : 0;
	frame.total = ebb_find_total(generation, cpu, slot, direction);
	if (!frame.total) /* never: user space sized the array for every CPU and slot */
		return;
	ebb_count(&frame.total->seen, &frame);

	packet.tags = tag ? ebb_push_tag(0, 0, skb->vlan_tci) : 0;
	if (ebb_fast_path && link == EBB_LINK_ETHERNET)
		verdict = ebb_parse_fast(skb, &packet);
	if (verdict == EBB_OTHER)
		verdict = ebb_parse(skb, &packet, link);

	if (skb->gso_size)
		ebb_expand(skb, &packet, &frame, tag);
	if (verdict == EBB_IP4)
		ebb_count4(skb, &packet, &frame);
	else if (verdict == EBB_IP6)
		ebb_count6(skb, &packet, &frame);
	else
		ebb_count(&frame.total->other, &frame);
}

#endif
