/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_FEATURE_H
#define EBB_FEATURE_H

#include "clock.h"
#include "key.h"
#include "maps.h"
#include "packet.h"
#include "tunables.h"
#include "warning_maps.h"

/*
 * A second's worth of early warning for each attach point: what kinds of
 * packets passed, how large and how close to each other. The counters only
 * grow; a row belongs to one CPU.
 */

/*
 * floor(log2(v)), 0 for 0. BPF has no instruction for it. Not static: the
 * verifier looks at its 64 paths once, not once for each path of the callers.
 */
__noinline __weak __u32 ebb_log2(__u64 v)
{
	__u32 n = 0;

	if (v >> 32) {
		v >>= 32;
		n += 32;
	}
	if (v >> 16) {
		v >>= 16;
		n += 16;
	}
	if (v >> 8) {
		v >>= 8;
		n += 8;
	}
	if (v >> 4) {
		v >>= 4;
		n += 4;
	}
	if (v >> 2) {
		v >>= 2;
		n += 2;
	}
	return n + (v >> 1);
}

/* The same for the size of a frame: most sizes take a comparison or four. */
static __always_inline __u32 ebb_size_bucket(__u32 bytes)
{
	__u32 n = 6;

	if (bytes < 64 || bytes >= 4096) {
		n = ebb_log2(bytes);
		return n < EBB_SIZE_BUCKETS ? n : EBB_SIZE_BUCKETS - 1;
	}
	if (bytes >= 512) {
		bytes >>= 3;
		n += 3;
	}
	if (bytes >= 256)
		return n + 2;
	return bytes >= 128 ? n + 1 : n;
}

static __always_inline void ebb_feature_add(__u32 *to, __u32 n)
{
	if (ebb_atomic)
		__sync_fetch_and_add(to, n);
	else
		*to += n;
}

static __always_inline __u32 ebb_feature_index(const struct ebb_frame *f)
{
	return (bpf_get_smp_processor_id() * ebb_slots + (f->place >> EBB_PLACE_SLOT)) * 2 +
	       f->direction;
}

/*
 * Times a sample of the gaps between consecutive frames of the row. A frame
 * begins a gap, the next one ends it, and after that a random number of frames
 * (0 to 127, all alike) pass untimed: every pair of neighbours has the same
 * chance of 1 in 65.5, in whatever pattern the traffic comes, and the clock is
 * read for one frame in 32.
 */
static __always_inline void ebb_feature_gap(struct __sk_buff *skb, struct ebb_feature *row)
{
	__u64 now = ebb_now_precise(skb);
	__u32 bucket;

	if (ebb_sample_mask[0] | ebb_sample_mask[1]) { /* neighbours are left out */
		row->mark_ns = 0;
		row->due = row->frames + 64;
		return;
	}
	if (!row->mark_ns) {
		row->mark_ns = now;
		return;
	}
	bucket = ebb_log2(now > row->mark_ns ? now - row->mark_ns : 0);
	if (bucket >= EBB_GAP_BUCKETS)
		bucket = EBB_GAP_BUCKETS - 1;
	ebb_feature_add(&row->gaps[bucket], 1);
	row->mark_ns = 0;
	row->due = row->frames + 1 + (bpf_get_prandom_u32() & 127);
}

/*
 * A super-packet counts each segment by its size: all but the last are as large
 * as GSO makes them.
 */
static __always_inline void ebb_feature_segments(struct ebb_feature *row, __u64 packets,
						 __u64 bytes, __u32 size)
{
	__u64 full = (packets - 1) * size;

	if (full >= bytes) { /* a size that lies */
		ebb_feature_add(&row->sizes[ebb_size_bucket(bytes / packets)], packets);
		return;
	}
	ebb_feature_add(&row->sizes[ebb_size_bucket(size)], packets - 1);
	ebb_feature_add(&row->sizes[ebb_size_bucket(bytes - full)], 1);
}

/* Notes a packet in the row, with its TCP flags, 0 if it has none. */
__noinline __weak int ebb_feature_count(struct __sk_buff *skb, __u32 index, __u64 bytes,
					__u64 packets, __u32 flags_header)
{
	struct ebb_feature *row = bpf_map_lookup_elem(&ebb_features, &index);
	__u32 frames;

	if (!row) /* never: user space sized the array for every CPU and slot */
		return 0;
	frames = row->frames + 1;
	row->frames = frames;
	if (ebb_atomic)
		__sync_fetch_and_add(&row->bytes, bytes);
	else
		row->bytes += bytes;
	if (packets == 1)
		ebb_feature_add(&row->sizes[ebb_size_bucket(bytes)], 1);
	else
		ebb_feature_segments(row, packets, bytes,
				     skb->gso_size + (flags_header >> 16) +
					     (skb->vlan_present ? EBB_VLAN_LEN : 0));
	if ((__s32)(frames - row->due) >= 0)
		ebb_feature_gap(skb, row);
	if (!(flags_header & (EBB_TCP_SYN | EBB_TCP_FIN | EBB_TCP_RST)))
		return 0;
	if (flags_header & EBB_TCP_SYN)
		ebb_feature_add(flags_header & EBB_TCP_ACK ? &row->synack : &row->syn, 1);
	if (flags_header & EBB_TCP_FIN)
		ebb_feature_add(&row->fin, 1);
	if (flags_header & EBB_TCP_RST)
		ebb_feature_add(&row->rst, 1);
	return 0;
}

/*
 * Notes a packet. Once for each, after it was parsed and its segments counted.
 * The work is in a function that is not static, so that the verifier looks at it
 * once; inlined, it would multiply the paths of all that follows.
 */
static __always_inline void ebb_feature_note(struct __sk_buff *skb, const struct ebb_frame *f,
					     const struct ebb_packet *p, enum ebb_verdict verdict)
{
	if (ebb_feature_on)
		ebb_feature_count(skb, ebb_feature_index(f), f->bytes, f->packets,
				  verdict == EBB_OTHER ? 0 : p->flags | p->header << 16);
}

/* Notes that a packet made a flow entry, or found no room for one. */
static __always_inline void ebb_feature_flow(const struct ebb_frame *f, bool overflow)
{
	__u32 index = ebb_feature_index(f);
	struct ebb_feature *row;

	if (!ebb_feature_on)
		return;
	row = bpf_map_lookup_elem(&ebb_features, &index);
	if (row && overflow)
		ebb_feature_add(&row->overflow, f->packets);
	else if (row)
		ebb_feature_add(&row->new_flows, 1);
}

#endif
