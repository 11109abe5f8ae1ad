/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_LOSS_H
#define EBB_LOSS_H

/*
 * What the kernel dropped, and what its sockets sent again, by conversation.
 *
 * The kernel does not run a tracing program while the same program runs on that
 * CPU, so with the CPU in the key no counter needs an atomic operation; what is
 * not run for that reason is counted by the kernel. Two generations as in
 * maps.h make a drain exact.
 */

#include "kernel.h"
#include "packet.h"

#define EBB_LOSS_E2BIG	  7
#define EBB_NO_HEADER	  0xffff /* an offset that is not set */
#define EBB_TCP_MIN	  20	 /* bytes of the header without options */
#define EBB_TCP_OFFSET	  12	 /* where its own length is, before the flags */
#define EBB_LOSS_REASONS  4
#define EBB_KNOWN_REASONS 256

/* The endpoint a is the lower one, by address and then by port. */
struct ebb_loss_key {
	__u64 a[2]; /* network byte order; IPv4 is mapped, ::ffff:a.b.c.d */
	__u64 b[2];
	__be16 a_port;
	__be16 b_port;
	__u16 cpu;
	__u8 proto;
	__u8 unplaced; /* 1: the network namespace is not known */
};

struct ebb_loss {
	__u64 packets[2]; /* dropped, by sending side; a super-packet counts its segments */
	__u64 bytes[2];	  /* of those from the IP header on, a super-packet as the kernel has it */
	__u64 retransmits[2]; /* segments */
	/*
	 * The most frequent reasons of drops and how often each was seen. A new one
	 * takes the place, and the number, of the least frequent: the first of the
	 * result is right if it has more than half, and mostly else (Metwally et
	 * al., "Efficient computation of frequent and top-k elements", 2005).
	 */
	__u32 reason[EBB_LOSS_REASONS];
	__u32 times[EBB_LOSS_REASONS];
};

/* One CPU's account of what is in no entry. */
struct ebb_loss_rest {
	__u64 drops;	   /* packets without room in the map */
	__u64 retransmits; /* segments without room in the map */
	__u64 unreadable;  /* drops of IP packets without an IP header that can be read */
};

/* Which drops for a reason are no loss to anybody. */
enum ebb_no_loss {
	EBB_NO_LOSS_NONE = 0,
	EBB_NO_LOSS_ALL = 1,
	EBB_NO_LOSS_EMPTY = 2, /* TCP segments with neither data nor SYN nor RST */
};

volatile const __u8 ebb_no_loss[EBB_KNOWN_REASONS] = {}; /* enum ebb_no_loss, by reason */

/* The number of the reason NOT_SPECIFIED. */
volatile const __u32 ebb_unspecified = 0xffffffff;

/* The tracepoint of drops tells the socket that was to receive the packet (Linux 6.11). */
volatile const __u8 ebb_receiver_told = 0;

/* The kernel has no other reason for what a socket that closes leaves unread. */
volatile const __u8 ebb_purge_unnamed = 0;

__u32 ebb_loss_generation = 0;
__u32 ebb_loss_full[2] = {};

/* Clang leaves types that occur only in an inner map out of BTF; these keep them in. */
const struct ebb_loss_key *ebb_type_loss_key __attribute__((unused));
const struct ebb_loss *ebb_type_loss __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_HASH);
			__uint(max_entries, 8192);
			__uint(key_size, sizeof(struct ebb_loss_key));
			__uint(value_size, sizeof(struct ebb_loss));
		});
} ebb_losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ebb_loss_rest);
} ebb_loss_rests SEC(".maps");

/*
 * The network namespaces of which losses are told, by cookie: those of other
 * hosts on this kernel, as containers are, can have the same addresses.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} ebb_loss_nets SEC(".maps");

/* Whether losses in the namespace with this cookie are told. */
static __always_inline bool ebb_loss_watched(__u64 cookie)
{
	return bpf_map_lookup_elem(&ebb_loss_nets, &cookie);
}

/* A namespace's cookie, which is never 0: that is for no namespace. */
static __always_inline __u64 ebb_loss_cookie(const struct net *net)
{
	return net ? net->net_cookie : 0;
}

/*
 * The cookie of the namespace in which a packet is dropped, 0 where the packet
 * does not tell: TCP takes the device from what it receives (tcp_v4_rcv), and UDP
 * writes other things there (udp_set_dev_scratch), no kernel address among them.
 * So sockets are asked first.
 */
static __always_inline __u64 ebb_drop_cookie(const struct sk_buff *skb, const struct sock *receiver)
{
	const struct sock *sk = skb->sk;
	const struct net_device *dev;

	if (receiver)
		return ebb_loss_cookie(receiver->__sk_common.skc_net.net);
	if (sk)
		return ebb_loss_cookie(sk->__sk_common.skc_net.net);
	dev = skb->dev;
	return dev ? ebb_loss_cookie(dev->nd_net.net) : 0;
}

/* i modulo n, a power of two, in a way that the verifier sees and the compiler leaves alone. */
static __always_inline __u32 ebb_bound(__u32 i, __u32 n)
{
	asm volatile("" : "+r"(i));
	return i & (n - 1);
}

/* A packet or segment on its way from src to dst. */
struct ebb_path {
	__u64 src[2]; /* as in ebb_loss_key */
	__u64 dst[2];
	__be16 sport;
	__be16 dport;
	__u32 transport; /* offset of the header from the skb's head; 0: not read */
	__u8 proto;
};

static __always_inline void ebb_path_map4(__u64 *to, __be32 from)
{
	to[0] = 0;
	to[1] = (__u64)from << 32 | bpf_htonl(0xffff);
}

/* Orders the endpoints; returns which one src is. */
static __always_inline __u32 ebb_loss_order(struct ebb_loss_key *key, const struct ebb_path *p)
{
	__u64 s0 = bpf_be64_to_cpu(p->src[0]), d0 = bpf_be64_to_cpu(p->dst[0]);
	__u64 s1 = bpf_be64_to_cpu(p->src[1]), d1 = bpf_be64_to_cpu(p->dst[1]);
	__u16 sport = bpf_ntohs(p->sport), dport = bpf_ntohs(p->dport);
	__u32 side;

	if (s0 != d0)
		side = s0 > d0;
	else if (s1 != d1)
		side = s1 > d1;
	else
		side = sport > dport;
	key->a[0] = side ? p->dst[0] : p->src[0];
	key->a[1] = side ? p->dst[1] : p->src[1];
	key->b[0] = side ? p->src[0] : p->dst[0];
	key->b[1] = side ? p->src[1] : p->dst[1];
	key->a_port = side ? p->dport : p->sport;
	key->b_port = side ? p->sport : p->dport;
	key->proto = p->proto;
	key->cpu = bpf_get_smp_processor_id();
	return side;
}

static __always_inline struct ebb_loss_rest *ebb_loss_rest(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ebb_loss_rests, &zero);
}

/* The entry of the key, a new one if there is room, else null. */
static __always_inline struct ebb_loss *ebb_loss_entry(const struct ebb_loss_key *key)
{
	__u32 generation = ebb_loss_generation & 1;
	__u32 *full = &ebb_loss_full[ebb_bound(generation, 2)];
	void *losses = bpf_map_lookup_elem(&ebb_losses, &generation);
	struct ebb_loss *loss, fresh = {};
	int err;

	if (!losses)
		return 0;
	loss = bpf_map_lookup_elem(losses, key);
	if (loss || *full)
		return loss;
	err = bpf_map_update_elem(losses, key, &fresh, BPF_NOEXIST);
	if (err == -EBB_LOSS_E2BIG)
		*full = 1;
	return bpf_map_lookup_elem(losses, key);
}

static __always_inline void ebb_note_reason(struct ebb_loss *loss, __u32 reason)
{
	__u32 least = 0;

	for (__u32 i = 0; i < EBB_LOSS_REASONS; i++) {
		if (loss->reason[i] == reason) {
			loss->times[i]++;
			return;
		}
		if (loss->times[i] < loss->times[least & (EBB_LOSS_REASONS - 1)])
			least = i;
	}
	least &= EBB_LOSS_REASONS - 1;
	loss->reason[least] = reason;
	loss->times[least]++;
}

/* Ports, where the protocol has them and the packet is no later fragment. */
static __always_inline void ebb_path_ports(struct ebb_path *p, const struct sk_buff *skb,
					   __u32 offset, bool later)
{
	__be16 ports[2];

	switch (p->proto) {
	case EBB_IPPROTO_TCP:
	case EBB_IPPROTO_UDP:
	case EBB_IPPROTO_UDPLITE:
	case EBB_IPPROTO_SCTP:
	case EBB_IPPROTO_DCCP:
		break;
	default:
		return;
	}
	if (later || offset + sizeof(ports) > skb->tail ||
	    bpf_probe_read_kernel(ports, sizeof(ports), skb->head + offset))
		return;
	p->transport = offset;
	p->sport = ports[0];
	p->dport = ports[1];
}

static __always_inline bool ebb_path_ip4(struct ebb_path *p, const struct sk_buff *skb, __u32 at)
{
	struct ebb_ip4 ip;

	if (at + sizeof(ip) > skb->tail || bpf_probe_read_kernel(&ip, sizeof(ip), skb->head + at) ||
	    ip.version_ihl >> 4 != 4)
		return false;
	ebb_path_map4(p->src, ip.src);
	ebb_path_map4(p->dst, ip.dst);
	p->proto = ip.proto;
	ebb_path_ports(p, skb, at + (ip.version_ihl & 0xf) * 4,
		       (bpf_ntohs(ip.fragment) & EBB_IP4_OFFSET) != 0);
	return true;
}

static __always_inline bool ebb_path_ip6(struct ebb_path *p, const struct sk_buff *skb, __u32 at)
{
	struct ebb_ip6_extension e;
	struct ebb_ip6 ip;
	bool later = false;

	if (at + sizeof(ip) > skb->tail || bpf_probe_read_kernel(&ip, sizeof(ip), skb->head + at) ||
	    (*(__u8 *)&ip) >> 4 != 6)
		return false;
	__builtin_memcpy(p->src, ip.src, sizeof(p->src));
	__builtin_memcpy(p->dst, ip.dst, sizeof(p->dst));
	p->proto = ip.next;
	at += sizeof(ip);
	for (int i = 0; i < EBB_MAX_EXTENSIONS && !later; i++) {
		switch (p->proto) {
		case EBB_IPPROTO_HOPOPTS:
		case EBB_IPPROTO_ROUTING:
		case EBB_IPPROTO_DSTOPTS:
		case EBB_IPPROTO_FRAGMENT:
		case EBB_IPPROTO_AH:
			break;
		default:
			ebb_path_ports(p, skb, at, false);
			return true;
		}
		if (at + sizeof(e) > skb->tail ||
		    bpf_probe_read_kernel(&e, sizeof(e), skb->head + at))
			return true;
		if (p->proto == EBB_IPPROTO_FRAGMENT) {
			later = (bpf_ntohs(e.offset) & EBB_IP6_OFFSET) != 0;
			at += sizeof(e);
		} else {
			at += p->proto == EBB_IPPROTO_AH ? (e.len + 2) * 4 : (e.len + 1) * 8;
		}
		p->proto = e.next;
	}
	return true;
}

static __always_inline __u64 ebb_segments(const struct sk_buff *skb)
{
	const struct skb_shared_info *info = (void *)(skb->head + skb->end);
	__u16 segments = 0;

	if (BPF_CORE_READ_INTO(&segments, info, gso_segs) || !segments)
		return 1;
	return segments;
}

static __always_inline enum ebb_no_loss ebb_no_loss_of(__u32 reason)
{
	if (reason >= EBB_KNOWN_REASONS)
		return EBB_NO_LOSS_NONE;
	return ebb_no_loss[ebb_bound(reason, EBB_KNOWN_REASONS)];
}

/* Whether it is a TCP segment without data that has none of the flags. */
static __always_inline bool ebb_is_empty(const struct sk_buff *skb, const struct ebb_path *p,
					 __u32 size, __u8 flags)
{
	__u8 offset_flags[2];
	__u32 header;

	if (p->proto != EBB_IPPROTO_TCP || !p->transport ||
	    p->transport + EBB_TCP_MIN > skb->tail ||
	    bpf_probe_read_kernel(offset_flags, sizeof(offset_flags),
				  skb->head + p->transport + EBB_TCP_OFFSET))
		return false;
	header = p->transport - skb->network_header + (offset_flags[0] >> 4) * 4;
	return size <= header && !(offset_flags[1] & flags);
}

/*
 * Segments that the kernel frees without a reason in the ordinary course of a
 * connection: a FIN or an ACK in TIME_WAIT (discard_it in net/ipv4/tcp_ipv4.c),
 * and, where there is no better reason, those unread in the queue of a socket
 * that closes. SYNs are not among them.
 */
static __always_inline bool ebb_is_ordinary(const struct sk_buff *skb, const struct ebb_path *p,
					    __u32 size)
{
	const struct sock *sk = skb->sk;

	if (ebb_purge_unnamed && p->proto == EBB_IPPROTO_TCP && p->transport && sk &&
	    sk->__sk_common.skc_dport == p->sport)
		return true;
	return ebb_is_empty(skb, p, size, EBB_TCP_SYN);
}

/*
 * A packet to many that this host received, and that nobody here asked for: to a
 * group that the interface has not joined (ip6_mc_input in net/ipv6/ip6_input.c,
 * ip_route_input_noref in net/ipv4/route.c: IPv6 router solicitations and MLD
 * reports on every host that is no router), or to a port without a socket
 * (__udp4_lib_mcast_deliver in net/ipv4/udp.c, which counts it as IgnoredMulti
 * and not as an error). The kernel has no reason for them, and sending to many
 * means that some do not want it. What this host sends to many is HOST until it
 * is received.
 */
static __always_inline bool ebb_is_unwanted(const struct sk_buff *skb)
{
	switch (BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type)) {
	case EBB_PACKET_BROADCAST:
	case EBB_PACKET_MULTICAST:
	case EBB_PACKET_LOOPBACK:
		return true;
	}
	return false;
}

/* receiver is the socket that was to have the packet, null if none is known. */
static __always_inline void ebb_dropped(const struct sk_buff *skb, __u32 reason,
					const struct sock *receiver)
{
	__u32 at = skb->network_header;
	struct ebb_loss_key key = {};
	struct ebb_path path = {};
	struct ebb_loss_rest *rest;
	struct ebb_loss *loss;
	__u32 side, size;
	enum ebb_no_loss no_loss = ebb_no_loss_of(reason);
	__u64 cookie;
	bool read;

	if (no_loss == EBB_NO_LOSS_ALL)
		return;
	cookie = ebb_drop_cookie(skb, receiver);
	if (cookie && !ebb_loss_watched(cookie))
		return;
	if (skb->protocol == bpf_htons(EBB_ETH_P_IP))
		read = at != EBB_NO_HEADER && ebb_path_ip4(&path, skb, at);
	else if (skb->protocol == bpf_htons(EBB_ETH_P_IPV6))
		read = at != EBB_NO_HEADER && ebb_path_ip6(&path, skb, at);
	else
		return;
	if (!read) {
		rest = ebb_loss_rest();
		if (rest)
			rest->unreadable++;
		return;
	}
	size = skb->len + (__u32)(skb->data - skb->head) - at;
	if (reason == ebb_unspecified &&
	    (ebb_is_unwanted(skb) || ebb_is_ordinary(skb, &path, size)))
		return;
	if (no_loss == EBB_NO_LOSS_EMPTY &&
	    ebb_is_empty(skb, &path, size, EBB_TCP_SYN | EBB_TCP_RST))
		return;
	side = ebb_loss_order(&key, &path) & 1;
	key.unplaced = !cookie;
	loss = ebb_loss_entry(&key);
	if (!loss) {
		rest = ebb_loss_rest();
		if (rest)
			rest->drops += ebb_segments(skb);
		return;
	}
	loss->packets[side] += ebb_segments(skb);
	loss->bytes[side] += size;
	ebb_note_reason(loss, reason);
}

/* The socket, or the request of one, has sent segments again. */
static __always_inline void ebb_sent_again(const struct sock_common *sk, __be16 sport,
					   __u16 segments)
{
	struct ebb_path path = {.sport = sport, .dport = sk->skc_dport, .proto = EBB_IPPROTO_TCP};
	struct ebb_loss_key key = {};
	struct ebb_loss_rest *rest;
	struct ebb_loss *loss;
	__u32 side;

	if (!ebb_loss_watched(ebb_loss_cookie(sk->skc_net.net)))
		return;
	if (sk->skc_family == EBB_AF_INET) {
		ebb_path_map4(path.src, sk->skc_rcv_saddr);
		ebb_path_map4(path.dst, sk->skc_daddr);
	} else if (sk->skc_family == EBB_AF_INET6) {
		__builtin_memcpy(path.src, &sk->skc_v6_rcv_saddr, sizeof(path.src));
		__builtin_memcpy(path.dst, &sk->skc_v6_daddr, sizeof(path.dst));
	} else {
		return;
	}
	side = ebb_loss_order(&key, &path) & 1;
	loss = ebb_loss_entry(&key);
	if (loss) {
		loss->retransmits[side] += segments;
		return;
	}
	rest = ebb_loss_rest();
	if (rest)
		rest->retransmits += segments;
}

static __always_inline __u16 ebb_tcp_segments(const struct sk_buff *skb)
{
	const struct tcp_skb_cb *cb = (const struct tcp_skb_cb *)skb->cb;
	__u16 segments = 1;

	if (bpf_core_field_exists(cb->tcp_gso_segs))
		BPF_CORE_READ_INTO(&segments, cb, tcp_gso_segs);
	return segments ? segments : 1;
}

#endif
