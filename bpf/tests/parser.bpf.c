/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Shows tests what the parsers make of a packet, field by field: the flow map
 * tells only a part of it. Never attached.
 */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "../lib/types.h"
#include "../lib/tunables.h"
#include "../lib/maps.h"
#include "../lib/fastpath.h"
#include "../lib/parse.h"

/* Of the last run. */
struct ebb_packet ebb_result = {};
__u32 ebb_verdict = 0;

/* The packet's priority is the kind of link: enum ebb_link. */
SEC("tc")
int ebb_test_general(struct __sk_buff *skb)
{
	struct ebb_packet p;

	ebb_verdict = ebb_parse(skb, &p, skb->priority);
	ebb_result = p;
	return 0;
}

/* The verdict is EBB_OTHER for every packet that the fast path leaves to the other parser. */
SEC("tc")
int ebb_test_fast(struct __sk_buff *skb)
{
	struct ebb_packet p = {};

	if (skb->vlan_present)
		p.tags = ebb_push_tag(0, 0, skb->vlan_tci);
	ebb_verdict = ebb_parse_fast(skb, &p);
	ebb_result = p;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
