/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_OWNER_H
#define EBB_OWNER_H

/*
 * Who owns a socket. ebb_sockets says it for each socket, ebb_owners says who
 * that is, for longer than the process lives.
 *
 * The owner is the process that made the socket, as long as it holds it. From
 * the time of a scan on, the owner of a socket that its owner does not hold any
 * more (it has ended, or handed the socket over), or that pid 1 owns, is the
 * holder with the lowest pid above 1; pid 1 only if nobody else holds it. So a
 * socket of socket activation goes to the service, one that a fork server
 * accepted to the process that serves it, and one of before the agent's start
 * to its holder. An accepted socket begins with its listener's owner.
 */

#include "kernel.h"
#include "number.h"

#define EBB_COMM 16

/* The value of ebb_sockets: struct ebb_socket of types.h. */
struct ebb_holder {
	__u32 pid;  /* thread group id of the owner */
	__u32 scan; /* the last scan that settled the owner; other programs leave it alone */
};

struct ebb_owner {
	__u64 cgroup; /* id in the v2 hierarchy */
	__u64 seen;   /* CLOCK_BOOTTIME when these values were first seen */
	__u32 uid;
	__u32 pad;
	char comm[EBB_COMM];
};

#define EBB_CGROUP_PATH 256

/* Where a cgroup is below the root of the v2 hierarchy. */
struct ebb_cgroup {
	char path[EBB_CGROUP_PATH];
};

/* The number of the scan under way, never 0. */
__u32 ebb_scan = 0;

/* Shared with the programs that see the packets. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct ebb_holder);
} ebb_sockets SEC(".maps");

/* By thread group id. Evicting an owner loses the name of one that has ended. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct ebb_owner);
} ebb_owners SEC(".maps");

/* By id, of cgroups made since the start: some are gone before anybody looks for them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct ebb_cgroup);
} ebb_cgroups SEC(".maps");

/* A listener of Multipath TCP. */
struct ebb_listener {
	__u64 netns; /* cookie of its network namespace */
	__u32 port;
	__u32 pad;
};

/*
 * The owners of such listeners as the last scan settled them. The kernel gives
 * no way from a listener to the TCP socket below it, which is what an accepted
 * socket is cloned from: this is the way around. pid is 0 where listeners of
 * several owners share a port.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ebb_listener);
	__type(value, struct ebb_holder);
} ebb_listeners SEC(".maps");

/* Compares names as two words: there is no memcmp to call here. */
static __always_inline bool ebb_same_comm(const char *a, const char *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* Writes the owner if anything about it is new, so that seen stays the first time. */
static __always_inline void ebb_owner_put(__u32 pid, struct ebb_owner *now)
{
	const struct ebb_owner *old = bpf_map_lookup_elem(&ebb_owners, &pid);

	if (old && old->cgroup == now->cgroup && old->uid == now->uid &&
	    ebb_same_comm(old->comm, now->comm))
		return;
	now->seen = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&ebb_owners, &pid, now, BPF_ANY);
}

/*
 * The calling process makes a socket, or binds one. A socket of Multipath TCP
 * (Go's listeners are that) has a kernel-made TCP socket below it, which is the
 * one that packets have, and is first seen when it is bound.
 */
static __always_inline void ebb_socket_made(struct bpf_sock *sk)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct ebb_holder *holder;
	struct ebb_owner owner = {};

	if (sk->family != EBB_AF_INET && sk->family != EBB_AF_INET6)
		return;
	holder = bpf_sk_storage_get(&ebb_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!holder || holder->pid)
		return;
	holder->pid = pid;
	owner.cgroup = bpf_get_current_cgroup_id();
	owner.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(owner.comm, sizeof(owner.comm));
	ebb_owner_put(pid, &owner);
}

/*
 * The calling process binds a socket: what was known of the port is out of date.
 * If it was not seen being made and is not TCP's, it is older than the programs,
 * or the kernel's own (VXLAN, WireGuard), which is the calling process' by no means.
 */
static __always_inline void ebb_socket_bound(struct bpf_sock *sk)
{
	struct ebb_listener listener = {
		.netns = bpf_get_netns_cookie(sk),
		.port = sk->src_port,
	};

	bpf_map_delete_elem(&ebb_listeners, &listener);
	if (sk->protocol == EBB_IPPROTO_TCP)
		ebb_socket_made(sk);
}

/* The task holds a socket: the entry of its process. */
static __always_inline void ebb_owner_of(const struct task_struct *task, __u32 pid)
{
	const struct task_struct *leader = task->group_leader;
	struct ebb_owner owner = {
		.cgroup = task->cgroups->dfl_cgrp->kn->id,
		.uid = task->cred->uid.val,
	};

	bpf_probe_read_kernel_str(owner.comm, sizeof(owner.comm), leader->comm);
	ebb_owner_put(pid, &owner);
}

/* The internet socket behind the file, or null. */
static __always_inline struct sock *ebb_socket_of(struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sk = socket ? socket->sk : 0;

	if (!sk || (sk->__sk_common.skc_family != EBB_AF_INET &&
		    sk->__sk_common.skc_family != EBB_AF_INET6))
		return 0;
	return sk;
}

static __always_inline struct ebb_listener ebb_listener_of(const struct sock *sk)
{
	struct ebb_listener listener = {
		.netns = sk->__sk_common.skc_net.net->net_cookie,
		.port = sk->__sk_common.skc_num,
	};

	return listener;
}

/* Keeps the settled owner of a listener of Multipath TCP. */
static __always_inline void ebb_listener_put(const struct sock *sk, __u32 pid)
{
	struct ebb_listener listener = ebb_listener_of(sk);
	struct ebb_holder now = {.pid = pid, .scan = ebb_scan}, *old;

	old = bpf_map_lookup_elem(&ebb_listeners, &listener);
	if (old && old->scan == ebb_scan && old->pid != pid)
		now.pid = 0;
	bpf_map_update_elem(&ebb_listeners, &listener, &now, BPF_ANY);
}

/* A connection is accepted: it has the owner of a listener of Multipath TCP, if there is one. */
static __always_inline void ebb_accepted(struct sock *sk)
{
	struct ebb_listener listener;
	struct ebb_holder *holder, *settled;

	if (sk->sk_protocol != EBB_IPPROTO_TCP)
		return;
	listener = ebb_listener_of(sk);
	settled = bpf_map_lookup_elem(&ebb_listeners, &listener);
	if (!settled || !settled->pid)
		return;
	holder = bpf_sk_storage_get(&ebb_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (holder && !holder->scan) /* no scan has settled what it was cloned from */
		holder->pid = settled->pid;
}

/* First pass of a scan: the owners that still hold their sockets are settled. */
static __always_inline void ebb_scan_confirm(const struct task_struct *task, struct file *file)
{
	struct sock *sk = ebb_socket_of(file);
	struct ebb_holder *holder;

	if (!sk || task->tgid == 1)
		return;
	holder = bpf_sk_storage_get(&ebb_sockets, sk, 0, 0);
	if (holder && holder->pid == (__u32)task->tgid)
		holder->scan = ebb_scan;
}

/* Second pass, in the order of pids: the first holder of the others. */
static __always_inline void ebb_scan_settle(const struct task_struct *task, struct file *file)
{
	struct sock *sk = ebb_socket_of(file);
	struct ebb_holder *holder;
	__u32 pid = task->tgid;

	if (!sk)
		return;
	holder = bpf_sk_storage_get(&ebb_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!holder)
		return;
	if (holder->scan != ebb_scan) {
		holder->pid = pid;
		holder->scan = pid == 1 ? 0 : ebb_scan;
	}
	if (holder->pid != pid)
		return;
	ebb_owner_of(task, pid);
	if (sk->sk_protocol == EBB_IPPROTO_MPTCP && sk->__sk_common.skc_state == EBB_TCP_LISTEN)
		ebb_listener_put(sk, pid);
}

static __always_inline void ebb_cgroup_made(const struct cgroup *made, const char *path)
{
	struct ebb_cgroup cgroup = {};
	__u64 id;

	if (made->root->hierarchy_id) /* v1 */
		return;
	id = made->kn->id;
	bpf_probe_read_kernel_str(cgroup.path, sizeof(cgroup.path), path);
	bpf_map_update_elem(&ebb_cgroups, &id, &cgroup, BPF_ANY);
}

#endif
