/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_SEED_H
#define EBB_SEED_H

#include "kernel.h"
#include "number.h"

/* A TCP socket that is neither listening nor closed, as user space reads it. */
struct ebb_open_socket {
	__u8 local[16]; /* IPv4 is mapped, ::ffff:a.b.c.d */
	__u8 remote[16];
	__u16 local_port; /* host byte order */
	__be16 remote_port;
	__u32 state;
	/* The backlog of the listener that an accepted socket was cloned from, else 0. */
	__u32 backlog;
	/*
	 * Of the sequence numbers that this side used up: all, less those of data
	 * and FIN, and less the SYN's where it was not acknowledged to this very
	 * socket. 1 if this side connected, 0 if it accepted; anything else where
	 * the device refused packets, which bytes_sent counts all the same.
	 */
	__u32 balance;
};

static __always_inline void ebb_map4(__u8 *to, __be32 from)
{
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &from, sizeof(from));
}

/* Every state in which a FIN can have been sent. */
static __always_inline bool ebb_may_have_sent_fin(__u32 state)
{
	const __u32 states = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11; /* FIN_WAIT, LAST_ACK, CLOSING */

	return state < 32 && (states >> state & 1);
}

static __always_inline __u32 ebb_seed_balance(const struct tcp_sock *tp, __u32 state)
{
	__u32 next = tp->snd_nxt;
	__u32 used = (__u32)tp->bytes_acked + (next - tp->snd_una);
	__u32 fin = ebb_may_have_sent_fin(state) && next == tp->write_seq;

	return used - (__u32)(tp->bytes_sent - tp->bytes_retrans) - fin;
}

static __always_inline void ebb_seed_show(struct bpf_iter__tcp *ctx, struct sock_common *common)
{
	struct tcp_sock *tp = (struct tcp_sock *)bpf_skc_to_tcp_sock(common);
	struct sock *sk = (struct sock *)tp;
	struct ebb_open_socket open = {};

	if (!tp) /* in TIME_WAIT, or a request */
		return;
	open.state = common->skc_state;
	if (open.state == EBB_TCP_LISTEN)
		return;
	open.local_port = common->skc_num;
	open.remote_port = common->skc_dport;
	if (common->skc_family == EBB_AF_INET) {
		ebb_map4(open.local, common->skc_rcv_saddr);
		ebb_map4(open.remote, common->skc_daddr);
	} else {
		__builtin_memcpy(open.local, &common->skc_v6_rcv_saddr, sizeof(open.local));
		__builtin_memcpy(open.remote, &common->skc_v6_daddr, sizeof(open.remote));
	}
	open.backlog = sk->sk_max_ack_backlog;
	open.balance = ebb_seed_balance(tp, open.state);
	bpf_seq_write(ctx->meta->seq, &open, sizeof(open));
}

#endif
