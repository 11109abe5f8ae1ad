/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_SOCKET_H
#define EBB_SOCKET_H

#include "maps.h"
#include "packet.h"
#include "types.h"

/*
 * Whose socket sends or receives, and what it knows of its round-trip time.
 * Asked for the first packet of a side in an entry and, for the round-trip
 * time, when a connection ends; never for every packet.
 */

static __always_inline __u32 ebb_socket_pid(struct bpf_sock *sk)
{
	struct ebb_socket *s = bpf_sk_storage_get(&ebb_sockets, sk, 0, 0);

	return s ? s->pid : 0;
}

/* The sender of a packet on its way out is the socket that the skb still carries. */
static __always_inline void ebb_socket_sends(struct __sk_buff *skb, struct ebb_side *side,
					     __u8 proto)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	if (ebb_owner && !side->pid)
		side->pid = ebb_socket_pid(sk);
	if (ebb_health && proto == EBB_IPPROTO_TCP) {
		tcp = bpf_tcp_sock(sk);
		if (tcp && tcp->srtt_us)
			side->kernel_rtt = tcp->srtt_us >> 3;
	}
}

/* The receiver of a packet on its way in is looked up as the stack will do. */
static __always_inline void ebb_socket_receives(struct __sk_buff *skb, const struct ebb_packet *p,
						struct ebb_side *side, bool ip6)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 size;
	__u8 proto = p->tags;

	if (ip6) {
		__builtin_memcpy(tuple.ipv6.saddr, p->src6, 16);
		__builtin_memcpy(tuple.ipv6.daddr, p->dst6, 16);
		tuple.ipv6.sport = p->sport;
		tuple.ipv6.dport = p->dport;
		size = sizeof(tuple.ipv6);
	} else {
		tuple.ipv4.saddr = p->src4;
		tuple.ipv4.daddr = p->dst4;
		tuple.ipv4.sport = p->sport;
		tuple.ipv4.dport = p->dport;
		size = sizeof(tuple.ipv4);
	}
	if (proto == EBB_IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return;
	struct bpf_sock *full = bpf_sk_fullsock(sk);

	if (full)
		side->pid = ebb_socket_pid(full);
	bpf_sk_release(sk);
}

/*
 * Fills in what sockets tell of an entry. A function of its own: inlined for
 * both families it would double the verifier's work.
 */
static __noinline int ebb_socket_note(struct __sk_buff *skb, const struct ebb_packet *p,
				      struct ebb_flow *flow, __u32 side_direction_family)
{
	__u32 side = side_direction_family & 1;
	bool egress = side_direction_family & 2, ip6 = side_direction_family & 4;
	__u8 proto;

	if (!skb || !p || !flow)
		return 0;
	proto = p->tags;
	if (proto != EBB_IPPROTO_TCP && proto != EBB_IPPROTO_UDP)
		return 0;
	if (egress)
		ebb_socket_sends(skb, &flow->tcp[side], proto);
	else if (ebb_owner && !p->tunnel && !flow->tcp[side ^ 1].pid)
		ebb_socket_receives(skb, p, &flow->tcp[side ^ 1], ip6);
	return 0;
}

#endif
