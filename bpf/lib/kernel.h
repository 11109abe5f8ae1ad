/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_KERNEL_H
#define EBB_KERNEL_H

/*
 * The members of kernel types that the tracing programs read. Offsets are the
 * running kernel's: the loader takes them from its BTF (CO-RE), so neither the
 * order nor what is left out matters. Checked against Linux 5.15 to 6.18.
 */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* local port, host byte order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	__u32 sk_max_ack_backlog;
};

struct tcp_sock {
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 snd_una;
	__u64 bytes_sent;
	__u64 bytes_acked;
	__u64 bytes_retrans;
};

struct request_sock {
	struct sock_common __req_common;
};

struct socket {
	struct sock *sk;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct task_struct {
	int tgid;
	char comm[16];
	struct task_struct *group_leader;
	const struct cred *cred;
	struct css_set *cgroups;
};

struct file;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct skb_shared_info {
	unsigned short gso_segs;
};

struct net_device {
	possible_net_t nd_net;
};

/* Headers, tail and end are offsets from head, on all 64-bit kernels. */
struct sk_buff {
	struct net_device *dev; /* of a packet without socket: others keep something else there */
	struct sock *sk;
	unsigned int len;
	__be16 protocol;
	__u16 network_header;
	unsigned int tail;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
	__u8 pkt_type : 3; /* EBB_PACKET_HOST and so on */
	char cb[48];
};

struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

/* Has err where the tracepoint has it as its third argument. */
struct trace_event_raw_tcp_retransmit_skb {
	int err;
};

#pragma clang attribute pop

#endif
