/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_PARSE_H
#define EBB_PARSE_H

#include "fragment.h"
#include "layer.h"
#include "packet.h"
#include "tunnel.h"

/*
 * The general parser: any number of bytes in the linear part of the skb, VLAN
 * tags in the data, PPPoE, IPv4 options, IPv6 extension headers, fragments,
 * tunnels, interfaces without a link-layer header. It copies each header by
 * bpf_skb_load_bytes, which checks bounds, and all its loops are bounded.
 *
 * Its parts are global functions: the verifier looks at each of them once, not
 * once for every way that leads to it.
 */

/* Puts c before the outermost IP header; VLAN tags, in the metadata and in the data, go to p. */
static __always_inline __u8 ebb_parse_link(struct __sk_buff *skb, struct ebb_packet *p,
					   struct ebb_cursor *c, __u32 link)
{
	__u8 version;

	c->off = 0;
	c->end = ~0u;
	c->tags = 0;
	if (skb->vlan_present)
		p->tags = ebb_push_tag(0, c->tags++, skb->vlan_tci);
	if (link == EBB_LINK_IP) {
		if (bpf_skb_load_bytes(skb, 0, &version, 1))
			return EBB_REASON_TRUNCATED;
		c->family = version >> 4 == 4 ? EBB_IP4 : EBB_IP6;
		return EBB_REASON_NONE;
	}
	if (link != EBB_LINK_ETHERNET)
		return EBB_REASON_LINK;
	return ebb_parse_ether(skb, p, c);
}

/*
 * One IP packet, with level tunnels around it. Returns true if it is a tunnel's
 * itself and c is at the IP header inside; else c->reason is none and p the
 * flow, or says why there is none.
 */
static __always_inline bool ebb_parse_level(struct __sk_buff *skb, struct ebb_packet *p,
					    struct ebb_cursor *c, __u32 level)
{
	int inside;

	c->level = level;
	c->reason = ebb_parse_layer(skb, p, c);
	if (c->reason || c->later)
		return false;
	inside = ebb_parse_tunnel(skb, p, c);
	if (inside == EBB_INSIDE_ETHERNET)
		p->reason = ebb_parse_ether(skb, p, c);
	if (inside == EBB_INSIDE_NOTHING || p->reason)
		return false;
	if (level == EBB_MAX_TUNNELS || level >= c->limit) {
		p->reason = EBB_REASON_TOO_DEEP;
		return false;
	}
	c->around[level] = c->mark;
	return true;
}

/*
 * Fills p. A function of its own: inlined, it would slow down the packets that do
 * not need it.
 *
 * If the packet inside a tunnel turns out to be unreadable, the packet around
 * it is parsed again: it is sound, and the flow to record.
 */
static __noinline int ebb_parse(struct __sk_buff *skb, struct ebb_packet *p, __u32 link)
{
	struct ebb_cursor c = {.limit = EBB_MAX_TUNNELS};

	if (!skb || !p)
		return EBB_OTHER;
	for (int i = 0; i < 2; i++) {
		__builtin_memset(p, 0, sizeof(*p));
		c.tunnel = EBB_TUNNEL_NONE;
		c.tunnel_id = 0;
		c.level = 0;
		c.part = 0;
		c.reason = ebb_parse_link(skb, p, &c, link);
		/* As many levels as EBB_MAX_TUNNELS and the outermost. */
		if (!c.reason && ebb_parse_level(skb, p, &c, 0) && ebb_parse_level(skb, p, &c, 1))
			ebb_parse_level(skb, p, &c, 2);
		if (!c.reason || !c.level)
			break;
		c.inside = c.reason;
		c.limit = c.level - 1;
	}
	if (c.reason) {
		p->reason = c.reason;
		return EBB_OTHER;
	}
	if (c.inside)
		p->reason = c.inside;
	if (!c.later || !ebb_fragment_recall(skb, p, &c.mark))
		p->tags |= c.proto;
	for (__u32 level = 0; level < EBB_MAX_TUNNELS; level++)
		if (level < c.level && c.around[level].first)
			ebb_fragment_remember(skb, p, &c.around[level]);
	if (c.mark.first)
		ebb_fragment_remember(skb, p, &c.mark);
	return p->family;
}

#endif
