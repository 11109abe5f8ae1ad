/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Tells which process owns a socket. Loaded beside flow.bpf.c, with which it
 * shares ebb_sockets; each program is of use without the others.
 */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "lib/owner.h"

#define EBB_ALLOW 1

SEC("cgroup/sock_create")
int ebb_sock_create(struct bpf_sock *sk)
{
	ebb_socket_made(sk);
	return EBB_ALLOW;
}

SEC("cgroup/post_bind4")
int ebb_post_bind4(struct bpf_sock *sk)
{
	ebb_socket_bound(sk);
	return EBB_ALLOW;
}

SEC("cgroup/post_bind6")
int ebb_post_bind6(struct bpf_sock *sk)
{
	ebb_socket_bound(sk);
	return EBB_ALLOW;
}

SEC("iter/task_file")
int ebb_confirm(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task; /* read twice, they could be null again */
	struct file *file = ctx->file;

	if (task && file)
		ebb_scan_confirm(task, file);
	return 0;
}

SEC("iter/task_file")
int ebb_settle(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task; /* read twice, they could be null again */
	struct file *file = ctx->file;

	if (task && file)
		ebb_scan_settle(task, file);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int ebb_set_state(__u64 *ctx)
{
	if (ctx[1] == EBB_TCP_SYN_RECV && ctx[2] == EBB_TCP_ESTABLISHED)
		ebb_accepted((struct sock *)ctx[0]);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int ebb_cgroup_mkdir(__u64 *ctx)
{
	ebb_cgroup_made((const struct cgroup *)ctx[0], (const char *)ctx[1]);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
