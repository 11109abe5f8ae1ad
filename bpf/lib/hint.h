/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_HINT_H
#define EBB_HINT_H

#include "clock.h"
#include "key.h"
#include "maps.h"
#include "packet.h"
#include "tunables.h"
#include "types.h"

/*
 * Hands the beginning of what a side says to user space, which reads names out
 * of it: once per side and interval, and only what looks like something that is
 * read there. DNS asks several questions over one flow: a few of them. Nothing
 * waits for these: the ring is emptied at a slow pace, and what finds no room is
 * counted.
 */

#define EBB_HINTS      4   /* payloads of DNS per side and entry */
#define EBB_HINTS_QUIC 3   /* of a side whose first datagram was of QUIC */
#define EBB_HINTS_DONE 255 /* of a side that is not looked at any more */

#define EBB_PORT_DNS   53
#define EBB_PORT_MDNS  5353
#define EBB_PORT_LLMNR 5355

/* A QUIC client's first datagram has at least 1,200 bytes (RFC 9000 14.1). */
#define EBB_QUIC_MIN 1200

/* The longest ClientHello that is put together, with its record headers. */
#define EBB_HELLO_MAX 4096

/* Record headers of a ClientHello that takes several records: so many are waited for. */
#define EBB_HELLO_RECORDS (16 * 5)

/* What tells a beginning apart: a TLS record's header and that of the message in it. */
#define EBB_HEAD 9

#define EBB_WORD(a, b, c, d) ((__u32)(a) << 24 | (__u32)(b) << 16 | (__u32)(c) << 8 | (__u32)(d))

static __always_inline bool ebb_hint_is_dns(const struct ebb_packet *p)
{
	__u16 s = bpf_ntohs(p->sport), d = bpf_ntohs(p->dport);

	return s == EBB_PORT_DNS || d == EBB_PORT_DNS || s == EBB_PORT_MDNS || d == EBB_PORT_MDNS ||
	       s == EBB_PORT_LLMNR || d == EBB_PORT_LLMNR;
}

/*
 * The methods of RFC 9110 and those of the IANA registry that are in use, as
 * user space has them, by their first four bytes.
 */
static __always_inline bool ebb_hint_is_request(__u32 word)
{
	switch (word) {
	case EBB_WORD('G', 'E', 'T', ' '):
	case EBB_WORD('P', 'O', 'S', 'T'):
	case EBB_WORD('H', 'E', 'A', 'D'):
	case EBB_WORD('P', 'U', 'T', ' '):
	case EBB_WORD('D', 'E', 'L', 'E'):
	case EBB_WORD('O', 'P', 'T', 'I'):
	case EBB_WORD('P', 'A', 'T', 'C'):
	case EBB_WORD('C', 'O', 'N', 'N'):
	case EBB_WORD('T', 'R', 'A', 'C'):
	case EBB_WORD('P', 'R', 'O', 'P'):
	case EBB_WORD('M', 'K', 'C', 'O'):
	case EBB_WORD('C', 'O', 'P', 'Y'):
	case EBB_WORD('M', 'O', 'V', 'E'):
	case EBB_WORD('L', 'O', 'C', 'K'):
	case EBB_WORD('U', 'N', 'L', 'O'):
	case EBB_WORD('R', 'E', 'P', 'O'):
	case EBB_WORD('S', 'E', 'A', 'R'):
		return true;
	}
	return false;
}

static __always_inline void ebb_hint_fill(struct ebb_hint *h, struct __sk_buff *skb,
					  const struct ebb_packet *p, const struct ebb_frame *f,
					  __u32 side, __u32 len)
{
	__builtin_memset(h, 0, sizeof(*h));
	if (f->ip6) {
		__builtin_memcpy(h->a, side ? p->dst6 : p->src6, 16);
		__builtin_memcpy(h->b, side ? p->src6 : p->dst6, 16);
	} else {
		h->a[0] = side ? p->dst4 : p->src4;
		h->b[0] = side ? p->src4 : p->dst4;
	}
	ebb_key_rest(&h->rest, p, f, side);
	h->ns = ebb_now_precise(skb);
	h->seq = p->seq;
	h->payload_len = p->payload_len;
	h->len = len;
	h->side = side;
	h->family = f->ip6 ? EBB_IP6 : EBB_IP4;
}

/* Copies at most max bytes, a power of two, of the payload into the ring. */
static __always_inline void ebb_hint_emit(struct __sk_buff *skb, const struct ebb_packet *p,
					  const struct ebb_frame *f, __u32 side, bool continued,
					  const __u32 max)
{
	__u32 len = p->payload_len, there = skb->len - p->payload_off;
	struct ebb_hint *h;

	if (!len || skb->len <= p->payload_off)
		return;
	if (len > there) /* the capture that is replayed was cut */
		len = there;
	h = bpf_ringbuf_reserve(&ebb_hints, sizeof(*h) + max, 0);
	if (!h) {
		__sync_fetch_and_add(&ebb_hints_lost, 1);
		return;
	}
	if (len > max)
		len = max;
	/*
	 * Changes nothing: the verifier of Linux 6.1 follows the bounds of len in this form
	 * alone, and the compiler must not know that it changes nothing.
	 */
	asm volatile("" : "+r"(len));
	len = ((len - 1) & (max - 1)) + 1;
	if (bpf_skb_load_bytes(skb, p->payload_off, h + 1, len)) {
		bpf_ringbuf_discard(h, BPF_RB_NO_WAKEUP);
		return;
	}
	ebb_hint_fill(h, skb, p, f, side, len);
	h->continued = continued;
	bpf_ringbuf_submit(h, BPF_RB_NO_WAKEUP);
}

/*
 * How long a ClientHello is, with its record headers, that begins with n bytes
 * of head, 0 if that is none. Where too little is there to tell, as much as a
 * beginning can take.
 */
static __always_inline __u32 ebb_hint_hello(const __u8 *head, __u32 n)
{
	__u32 record, message;

	/* RFC 8446 5.1, 4 */
	if (head[0] != 22 || (n > 1 && head[1] != 3) || (n > 5 && head[5] != 1))
		return 0;
	if (n < EBB_HEAD)
		return EBB_HELLO_MAX;
	record = 5 + ((__u32)head[3] << 8 | head[4]);
	message = EBB_HEAD + ((__u32)head[6] << 16 | (__u32)head[7] << 8 | head[8]);
	return message > record ? message + EBB_HELLO_RECORDS : record;
}

/*
 * The first bytes of what a side says: how many of its bytes are wanted, 0 if it
 * is nothing that is read. A sender may cut anywhere, also behind the first byte.
 */
static __always_inline __u32 ebb_hint_wanted(const __u8 *head, __u32 n)
{
	__u32 word = EBB_WORD(head[0], head[1], head[2], head[3]), hello;

	if (ebb_tls) {
		hello = ebb_hint_hello(head, n);
		if (hello)
			return hello;
		/* The answer, a ServerHello or an alert, for its time. */
		if (n > 5 && head[1] == 3 && (head[0] == 21 || (head[0] == 22 && head[5] == 2)))
			return 1;
	}
	if (!ebb_http)
		return 0;
	if (word == EBB_WORD('H', 'T', 'T', 'P'))
		return 1;
	/* No other protocol begins with less than a word of capital letters. */
	if (ebb_hint_is_request(word) || (n < 4 && head[0] >= 'C' && head[0] <= 'U'))
		return EBB_HINT_SMALL;
	return 0;
}

static __always_inline void ebb_hint_tcp(struct __sk_buff *skb, const struct ebb_packet *p,
					 const struct ebb_frame *f, struct ebb_side *own,
					 __u32 side)
{
	__u8 head[EBB_HEAD] = {};
	__u32 wanted = own->hint_left, n = p->payload_len;
	bool continued = wanted;

	if (!continued && ebb_dns && ebb_hint_is_dns(p)) {
		own->hints++;
		ebb_hint_emit(skb, p, f, side, false, EBB_HINT_SMALL);
		return;
	}
	if (!continued) {
		own->hints = EBB_HINTS_DONE;
		if (n >= EBB_HEAD) {
			n = EBB_HEAD;
			if (bpf_skb_load_bytes(skb, p->payload_off, head, EBB_HEAD))
				return;
		} else {
			/* Byte by byte: the verifier of Linux 6.1 wants sizes that are constant. */
			for (__u32 i = 0; i < EBB_HEAD - 1; i++)
				if (i < n &&
				    bpf_skb_load_bytes(skb, p->payload_off + i, &head[i], 1))
					return;
		}
		wanted = ebb_hint_wanted(head, n);
		if (!wanted)
			return;
	}
	own->hint_left =
		wanted <= EBB_HELLO_MAX && wanted > p->payload_len ? wanted - p->payload_len : 0;
	if (wanted > EBB_HINT_SMALL)
		ebb_hint_emit(skb, p, f, side, continued, EBB_HINT_LARGE);
	else
		ebb_hint_emit(skb, p, f, side, continued, EBB_HINT_SMALL);
}

static __always_inline void ebb_hint_udp(struct __sk_buff *skb, const struct ebb_packet *p,
					 const struct ebb_frame *f, struct ebb_side *own,
					 __u32 side)
{
	__u8 head[5];
	bool continued;

	if (ebb_dns && ebb_hint_is_dns(p)) {
		own->hints++;
		ebb_hint_emit(skb, p, f, side, false, EBB_HINT_SMALL);
		return;
	}
	/* A ClientHello can take two datagrams. */
	continued = own->hints == EBB_HINTS_QUIC;
	own->hints = EBB_HINTS_DONE;
	if (!ebb_quic || p->payload_len < EBB_QUIC_MIN ||
	    bpf_skb_load_bytes(skb, p->payload_off, head, sizeof(head)))
		return;
	/* A long header with the fixed bit and a version (RFC 9000 17.2). */
	if ((head[0] & 0xc0) != 0xc0 || !(head[1] | head[2] | head[3] | head[4]))
		return;
	if (!continued)
		own->hints = EBB_HINTS_QUIC;
	ebb_hint_emit(skb, p, f, side, continued, EBB_HINT_LARGE);
}

/*
 * Looks at a packet with payload of a side that is still looked at. A function
 * of its own, out of the way of the packets that do not need it.
 */
static __noinline int ebb_hint_look(struct __sk_buff *skb, const struct ebb_packet *p,
				    const struct ebb_frame *f, struct ebb_flow *flow, __u32 side)
{
	struct ebb_side *own;

	if (!skb || !p || !f || !flow)
		return 0;
	side &= 1;
	own = &flow->tcp[side];
	if ((__u8)p->tags == EBB_IPPROTO_TCP)
		ebb_hint_tcp(skb, p, f, own, side);
	else if ((__u8)p->tags == EBB_IPPROTO_UDP)
		ebb_hint_udp(skb, p, f, own, side);
	else
		own->hints = EBB_HINTS_DONE;
	return 0;
}

static __always_inline void ebb_hint_note(struct __sk_buff *skb, const struct ebb_packet *p,
					  const struct ebb_frame *f, struct ebb_flow *flow,
					  __u32 side)
{
	const struct ebb_side *own = &flow->tcp[side & 1];

	if (!(ebb_dns | ebb_tls | ebb_http | ebb_quic))
		return;
	if (p->payload_len && (own->hints < EBB_HINTS || own->hint_left))
		ebb_hint_look(skb, p, f, flow, side);
}

#endif
