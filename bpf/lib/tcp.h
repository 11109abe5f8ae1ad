/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_TCP_H
#define EBB_TCP_H

#include "clock.h"
#include "packet.h"
#include "types.h"

/*
 * What the headers tell of a TCP connection's health, in both directions and of
 * forwarded traffic too. An entry belongs to one CPU and one interval: what
 * another CPU saw is not compared, so a retransmission can be missed, never
 * invented. Of local sockets, tracepoints and the sockets themselves know better.
 */

/*
 * An ACK so far beyond the sampled byte is not that byte's first: those before
 * it passed on another CPU.
 */
#define EBB_SAMPLE_REACH (1 << 20)

static __always_inline void ebb_tcp_round_trip(struct __sk_buff *skb, struct ebb_flow *flow,
					       struct ebb_side *peer, __u32 ack)
{
	__s32 beyond = ack - peer->sample_seq;
	__s32 rtt;

	if (beyond < 0)
		return;
	if (beyond < EBB_SAMPLE_REACH) {
		rtt = ebb_units(flow, ebb_now_precise(skb)) - peer->sample_at;
		if (rtt < 1)
			rtt = 1;
		/* RFC 6298, 2.3 */
		peer->rtt = peer->rtt ? peer->rtt + ((rtt - (__s32)peer->rtt) >> 3) : (__u32)rtt;
	}
	peer->sample_at = 0;
}

/* Called for each TCP packet whose flags are known, before it is counted. */
static __always_inline void ebb_tcp_track(struct __sk_buff *skb, struct ebb_flow *flow,
					  const struct ebb_packet *p, __u32 packets, __u32 side)
{
	struct ebb_side *own = &flow->tcp[side & 1], *peer = &flow->tcp[(side & 1) ^ 1];
	__u16 control = p->flags & (EBB_TCP_SYN | EBB_TCP_FIN | EBB_TCP_RST);
	__u32 len = p->payload_len;

	if (!p->window && !control)
		own->zero_windows++;
	if (peer->sample_at && (p->flags & EBB_TCP_ACK))
		ebb_tcp_round_trip(skb, flow, peer, p->ack);
	if (control) {
		if (p->flags & EBB_TCP_RST) {
			own->resets++;
			return; /* its sequence number proves nothing */
		}
		len += (p->flags & EBB_TCP_SYN) ? 1 : 0;
		len += (p->flags & EBB_TCP_FIN) ? 1 : 0;
	}
	/*
	 * Nothing to compare with: the entry's first segment of the side, by chance
	 * another, or a SYN that is not the one before and so begins anew.
	 */
	if (!own->next_seq || ((p->flags & EBB_TCP_SYN) && p->seq + len != own->next_seq)) {
		own->next_seq = p->seq;
		own->sample_at = 0;
	}
	if (!len)
		return;
	__s32 ahead = p->seq - own->next_seq; /* 0: just what was due */

	if (ahead < 0) {
		/* A keep-alive repeats the byte before (RFC 9293 3.8.4). */
		if (ahead != -1 || len > 1 || control) {
			own->retransmits += packets;
			own->sample_at = 0; /* Karn: it is not clear what an ACK is for */
		}
		if ((__s32)(p->seq + len - own->next_seq) > 0)
			own->next_seq = p->seq + len;
		return;
	}
	own->next_seq = p->seq + len;
	if (!own->sample_at) {
		own->sample_seq = p->seq + len;
		own->sample_at = ebb_units(flow, ebb_now_precise(skb));
	}
}

#endif
