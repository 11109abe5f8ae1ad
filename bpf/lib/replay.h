/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_REPLAY_H
#define EBB_REPLAY_H

#include "clock.h"
#include "packet.h"
#include "types.h"

/*
 * Live time does not run backwards; the time of captures does now and then. An
 * entry still covers its earliest and its latest packet.
 */

/* Event units by which an entry can be moved at most: half an hour. */
#define EBB_REPLAY_REACH 0x70000000

static __always_inline void ebb_replay_shift(__u32 *units, __u32 shift)
{
	if (*units)
		*units += shift;
}

/* Moves the beginning of the entry back to a packet that is before it. */
static __always_inline void ebb_replay_earlier(struct ebb_flow *flow, struct __sk_buff *skb,
					       const struct ebb_packet *p, __u32 side)
{
	__u64 shift = (flow->first_ns - skb->tstamp) >> EBB_EVENT_SHIFT;

	if (skb->tstamp >= flow->first_ns || flow->last_event > EBB_REPLAY_REACH ||
	    shift > EBB_REPLAY_REACH)
		return;
	for (int i = 0; i < EBB_EVENTS; i++) {
		ebb_replay_shift(&flow->event[0][i], shift);
		ebb_replay_shift(&flow->event[1][i], shift);
	}
	ebb_replay_shift(&flow->last_event, shift);
	ebb_replay_shift(&flow->tcp[0].sample_at, shift);
	ebb_replay_shift(&flow->tcp[1].sample_at, shift);
	flow->first_ns = skb->tstamp;
	flow->first_side = side;
	flow->icmp_type = p->icmp_type;
	flow->icmp_code = p->icmp_code;
}

#endif
