/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* Lists the TCP connections that a network namespace has, and who opened them. */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/seed.h"

/* Keeps the type in BTF: it reaches user space only as bytes. */
const struct ebb_open_socket *ebb_type_open_socket __attribute__((unused));

SEC("iter/tcp")
int ebb_seed(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common; /* read twice, it could be null again */

	if (common)
		ebb_seed_show(ctx, common);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
