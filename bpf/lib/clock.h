/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_CLOCK_H
#define EBB_CLOCK_H

#include "tunables.h"
#include "types.h"

/* The unit of ebb_flow.event: 1024 ns. */
#define EBB_EVENT_SHIFT 10

static __always_inline __u64 ebb_now_precise(struct __sk_buff *skb)
{
	return ebb_replay ? skb->tstamp : bpf_ktime_get_ns();
}

static __always_inline __u64 ebb_now_coarse(struct __sk_buff *skb)
{
	return ebb_replay ? skb->tstamp : bpf_ktime_get_coarse_ns();
}

/*
 * now as the entry notes times: never 0. An entry that another CPU is just
 * making (shared entries only) may have no first_ns yet.
 */
static __always_inline __u32 ebb_units(const struct ebb_flow *flow, __u64 now)
{
	if (!flow->first_ns)
		return 1;
	__u64 units = now > flow->first_ns ? 1 + ((now - flow->first_ns) >> EBB_EVENT_SHIFT) : 1;

	return units > 0xffffffff ? 0xffffffff : units;
}

#endif
