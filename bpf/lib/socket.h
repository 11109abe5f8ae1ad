/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_SOCKET_H
#define EBB_SOCKET_H

#include "key.h"
#include "maps.h"
#include "packet.h"
#include "types.h"

/*
 * Whose socket sends or receives, and what it knows of its round-trip time.
 * Asked for the first packets of a side in an entry and, for the round-trip
 * time, when a connection ends; never for every packet.
 */

/*
 * How many packets of a side are asked for the socket they carry: what a
 * listener answers by itself (SYN-ACK) carries none with an owner.
 */
#define EBB_ASKED 4

/* Where the routes of the device's namespace send what came in by it. */
enum ebb_route {
	EBB_ROUTE_UNKNOWN = 0, /* nowhere, or by means of its own */
	EBB_ROUTE_OFF = 1,     /* the device does not forward */
	EBB_ROUTE_HERE = 2,    /* to the namespace itself; also where there is no route */
	EBB_ROUTE_LINK = 3,    /* to the address itself, on a link */
	EBB_ROUTE_GATEWAY = 4,
};

static __always_inline __u32 ebb_socket_pid(struct bpf_sock *sk)
{
	struct ebb_socket *s = bpf_sk_storage_get(&ebb_sockets, sk, 0, 0);

	return s ? s->pid : 0;
}

/*
 * Whether the socket that an skb carries sent the packet, not one around it:
 * what a tunnel sends carries the socket of what is inside. NAT changes one port.
 */
static __always_inline bool ebb_socket_sent(const struct bpf_sock *sk, const struct ebb_packet *p,
					    __u8 proto)
{
	if (sk->type == EBB_SOCK_RAW)
		return sk->protocol == proto || sk->protocol == EBB_IPPROTO_RAW;
	return sk->protocol == proto &&
	       (sk->src_port == bpf_ntohs(p->sport) || sk->dst_port == p->dport);
}

/*
 * The sender is the socket that the skb still carries: on its way out, and also
 * where it comes in from a veth pair whose other end it left by.
 */
static __always_inline void ebb_socket_sends(struct __sk_buff *skb, const struct ebb_packet *p,
					     struct ebb_side *side, __u8 proto)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk || !ebb_socket_sent(sk, p, proto))
		return;
	if (ebb_owner && !side->pid)
		side->pid = ebb_socket_pid(sk);
	/* A raw socket can be of this protocol, too. */
	if (ebb_health && proto == EBB_IPPROTO_TCP && sk->type != EBB_SOCK_RAW) {
		tcp = bpf_tcp_sock(sk);
		if (tcp && tcp->srtt_us)
			side->kernel_rtt = tcp->srtt_us >> 3;
	}
}

/*
 * Where a packet to the destination would go; back: to the source. A function of
 * its own for its stack.
 */
static __noinline enum ebb_route ebb_route(struct __sk_buff *skb, const struct ebb_packet *p,
					   bool ip6, bool back)
{
	struct bpf_fib_lookup fib = {.ifindex = skb->ifindex};
	__u64 next[2];
	bool same;
	int err; /* not long: see ebb_flow_insert */

	if (!p)
		return EBB_ROUTE_UNKNOWN;
	if (ip6) {
		fib.family = EBB_AF_INET6;
		__builtin_memcpy(fib.ipv6_src, back ? p->dst6 : p->src6, 16);
		__builtin_memcpy(fib.ipv6_dst, back ? p->src6 : p->dst6, 16);
	} else {
		fib.family = EBB_AF_INET;
		fib.ipv4_src = back ? p->dst4 : p->src4;
		fib.ipv4_dst = back ? p->src4 : p->dst4;
	}
	err = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	switch (err) {
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return EBB_ROUTE_OFF;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return EBB_ROUTE_HERE;
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		break; /* and the next hop is in fib */
	default:
		return EBB_ROUTE_UNKNOWN;
	}
	if (ip6) {
		__builtin_memcpy(next, fib.ipv6_dst, sizeof(next));
		same = !ebb_compare6(next, back ? p->src6 : p->dst6);
	} else {
		same = fib.family == EBB_AF_INET && fib.ipv4_dst == (back ? p->src4 : p->dst4);
	}
	return same ? EBB_ROUTE_LINK : EBB_ROUTE_GATEWAY;
}

/*
 * Whether the packet ends where a socket that is bound to no address was found
 * for it, as it would be for any address; else it is only forwarded there.
 */
static __always_inline bool ebb_socket_meant(struct __sk_buff *skb, const struct ebb_packet *p,
					     bool ip6, bool peer)
{
	enum ebb_route route;

	/* Into a veth pair, to whom this address is: its end, not beyond. */
	if (peer)
		return ebb_route(skb, p, ip6, false) == EBB_ROUTE_LINK;
	if (skb->pkt_type == EBB_PACKET_BROADCAST || skb->pkt_type == EBB_PACKET_MULTICAST)
		return true;
	route = ebb_route(skb, p, ip6, false);
	if (skb->pkt_type == EBB_PACKET_HOST)
		return route == EBB_ROUTE_HERE || route == EBB_ROUTE_OFF;
	/*
	 * To another MAC address: a bridge's, by a port of it, or what is none of this
	 * host's business. Who has an address there, also has a route back.
	 */
	return route == EBB_ROUTE_HERE && ebb_route(skb, p, ip6, true) >= EBB_ROUTE_LINK;
}

/*
 * The owner of the socket that receives the packet in a network namespace (its
 * id, or BPF_F_CURRENT_NETNS), looked up as the stack will do; back: that sent it.
 */
static __noinline __u32 ebb_socket_find(struct __sk_buff *skb, const struct ebb_packet *p, bool ip6,
					bool back, __u64 netns)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk, *full;
	bool peer = netns != (__u64)BPF_F_CURRENT_NETNS, bound;
	__u32 size, pid = 0;

	if (!p)
		return 0;
	if (ip6) {
		__builtin_memcpy(tuple.ipv6.saddr, back ? p->dst6 : p->src6, 16);
		__builtin_memcpy(tuple.ipv6.daddr, back ? p->src6 : p->dst6, 16);
		tuple.ipv6.sport = back ? p->dport : p->sport;
		tuple.ipv6.dport = back ? p->sport : p->dport;
		size = sizeof(tuple.ipv6);
	} else {
		tuple.ipv4.saddr = back ? p->dst4 : p->src4;
		tuple.ipv4.daddr = back ? p->src4 : p->dst4;
		tuple.ipv4.sport = back ? p->dport : p->sport;
		tuple.ipv4.dport = back ? p->sport : p->dport;
		size = sizeof(tuple.ipv4);
	}
	if ((__u8)p->tags == EBB_IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, size, netns, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, size, netns, 0);
	if (!sk)
		return 0;
	full = bpf_sk_fullsock(sk);
	if (full) {
		bound = ip6 ? full->src_ip6[0] | full->src_ip6[1] | full->src_ip6[2] |
					full->src_ip6[3]
			    : full->src_ip4;
		if (bound || (!back && ebb_socket_meant(skb, p, ip6, peer)))
			pid = ebb_socket_pid(full);
	}
	bpf_sk_release(sk);
	return pid;
}

/* The namespace of the other end of a veth pair as struct ebb_point has it. */
static __always_inline __u32 ebb_find_peer(__u32 slot)
{
	struct ebb_point *point = bpf_map_lookup_elem(&ebb_points, &slot);

	return point ? point->peer : 0;
}

/*
 * Fills in what sockets tell of an entry. A function of its own: inlined for
 * both families it would double the verifier's work.
 */
static __noinline int ebb_socket_note(struct __sk_buff *skb, const struct ebb_packet *p,
				      struct ebb_flow *flow, __u32 first_side_direction_family,
				      __u32 slot)
{
	__u32 side = first_side_direction_family & 1, peer;
	bool egress = first_side_direction_family & 2, ip6 = first_side_direction_family & 4;
	struct ebb_side *from, *to;
	__u8 proto;

	if (!skb || !p || !flow)
		return 0;
	proto = p->tags;
	if (proto != EBB_IPPROTO_TCP && proto != EBB_IPPROTO_UDP)
		return 0;
	from = &flow->tcp[side];
	to = &flow->tcp[side ^ 1];
	ebb_socket_sends(skb, p, from, proto);
	if (!ebb_owner || p->tunnel || !(first_side_direction_family & 8))
		return 0;
	peer = ebb_find_peer(slot);
	if (!to->pid && (peer || !egress))
		to->pid = ebb_socket_find(skb, p, ip6, false,
					  egress ? peer - 1 : (__u64)BPF_F_CURRENT_NETNS);
	if (!from->pid && peer && !egress)
		from->pid = ebb_socket_find(skb, p, ip6, true, peer - 1);
	return 0;
}

#endif
