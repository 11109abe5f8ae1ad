/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* Tells what the kernel dropped and why, and what its TCP sent again. */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "lib/loss.h"

/*
 * Its third argument, the reason, exists since Linux 5.17. The branch to the
 * fourth is removed before the verifier sees it where there is none.
 */
SEC("tp_btf/kfree_skb")
int ebb_kfree_skb(__u64 *ctx)
{
	const struct sock *receiver = 0;

	if (ebb_receiver_told)
		receiver = (const struct sock *)ctx[3];
	ebb_dropped((const struct sk_buff *)ctx[0], ctx[2], receiver);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int ebb_retransmit(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	const struct sk_buff *skb = (const struct sk_buff *)ctx[1];

	/*
	 * Newer kernels tell of failed attempts, too: the first transmission is still
	 * in the host's queue, the window is closed, there is no route. The branch is
	 * removed before the verifier sees it where there is no third argument.
	 */
	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err) && (int)ctx[2])
		return 0;
	ebb_sent_again(&sk->__sk_common, bpf_htons(sk->__sk_common.skc_num), ebb_tcp_segments(skb));
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int ebb_retransmit_synack(__u64 *ctx)
{
	const struct request_sock *req = (const struct request_sock *)ctx[1];

	ebb_sent_again(&req->__req_common, bpf_htons(req->__req_common.skc_num), 1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
