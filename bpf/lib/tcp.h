/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_TCP_H
#define EBB_TCP_H

#include "clock.h"
#include "packet.h"
#include "types.h"

/*
 * What the headers tell of a TCP connection's health, in both directions and of
 * forwarded traffic too. An entry belongs to one CPU and one interval: what
 * another CPU saw is not compared, so a retransmission can be missed, and hardly
 * ever invented (below). Of local sockets, tracepoints and the sockets themselves know better.
 */

/* The largest window (RFC 7323, 2.3): nothing is sent again from further back. */
#define EBB_WINDOW_MAX (1 << 30)

/* The unit of ebb_flow.sent_at: 2^24 ns, 17 ms. Differences below 9 minutes are right. */
#define EBB_SENT_SHIFT 24

/*
 * While a connection passed on another CPU, its numbers went on. After more than
 * 2 GiB they compare as if they had gone back: further than any window at first,
 * and after 3 GiB by what could be a window. That takes 67 ms at 384 Gbit/s, so
 * only a segment after a longer silence of its side is in doubt. It counts as
 * sent again if it is no further back than what most senders have in flight.
 * That is wrong once in 4,096 returns after more than 4 GiB, and misses what is
 * sent again after the timeout of a sender with more in flight.
 */
#define EBB_SILENCE	  4 /* units of ebb_flow.sent_at, 50 to 67 ms */
#define EBB_SILENCE_REACH (1 << 20)

/*
 * An ACK so far beyond the sampled byte is not that byte's first: those before
 * it passed on another CPU. So did those of a sample from so far before a segment.
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

/* Called for each TCP packet whose flags are known, before it is counted; coarse is its time. */
static __always_inline void ebb_tcp_track(struct __sk_buff *skb, struct ebb_flow *flow,
					  const struct ebb_packet *p, __u32 packets, __u32 side,
					  __u64 coarse)
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
	__u16 at = coarse >> EBB_SENT_SHIFT;
	__s16 silence = at - flow->sent_at[side & 1]; /* a capture's can be below 0 */

	flow->sent_at[side & 1] = at;
	if (ahead < 0 && ahead >= (silence < EBB_SILENCE ? -EBB_WINDOW_MAX : -EBB_SILENCE_REACH)) {
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
	if (!own->sample_at || (__u32)ahead > EBB_SAMPLE_REACH) {
		own->sample_seq = p->seq + len;
		own->sample_at = ebb_units(flow, ebb_now_precise(skb));
	}
}

#endif
