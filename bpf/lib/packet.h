/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_PACKET_H
#define EBB_PACKET_H

#include "number.h"
#include "tunables.h"
#include "types.h"

/* Wire formats, and what the parsers make of a packet. */

#define EBB_ETH_LEN  14
#define EBB_VLAN_LEN 4
#define EBB_IP6_LEN  40

#define EBB_ETH_P_IP	 0x0800
#define EBB_ETH_P_IPV6	 0x86dd
#define EBB_ETH_P_8021Q	 0x8100
#define EBB_ETH_P_8021AD 0x88a8
#define EBB_ETH_P_QINQ	 0x9100 /* before 802.1ad, still seen */
#define EBB_ETH_P_TEB	 0x6558 /* Ethernet inside a tunnel */
#define EBB_ETH_P_PPPOE	 0x8864 /* session stage */

#define EBB_PPP_IP4 0x0021
#define EBB_PPP_IP6 0x0057

/* Bounds of the general parser. */
#define EBB_MAX_TAGS	   4 /* VLAN tags in the data */
#define EBB_MAX_EXTENSIONS 8 /* IPv6 extension headers, or authentication headers of IPv4 */
#define EBB_MAX_TUNNELS	   2 /* tunnels inside each other */

/* TCP flags as in bytes 13 and 14 of the header. */
#define EBB_TCP_FIN   0x001
#define EBB_TCP_SYN   0x002
#define EBB_TCP_RST   0x004
#define EBB_TCP_ACK   0x010
#define EBB_TCP_FLAGS 0x1ff

/* Fragment offset field of IPv4; IPv6 has the offset in the upper 13 bits. */
#define EBB_IP4_MORE   0x2000
#define EBB_IP4_OFFSET 0x1fff
#define EBB_IP6_MORE   0x0001
#define EBB_IP6_OFFSET 0xfff8

struct ebb_eth {
	__u8 addresses[12];
	__be16 proto;
};

struct ebb_vlan {
	__be16 tci;
	__be16 proto;
};

/* RFC 2516, with the PPP protocol. */
struct ebb_pppoe {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 len;
	__be16 proto;
};

struct ebb_ip4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_len;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 proto;
	__be16 check;
	__be32 src;
	__be32 dst;
};

struct ebb_ip6 {
	__be32 version_class_label;
	__be16 payload_len;
	__u8 next;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

/* All IPv6 extension headers begin like this; a fragment header is exactly this. */
struct ebb_ip6_extension {
	__u8 next;
	__u8 len;
	__be16 offset;
	__be32 id;
};

/* The part of the transport headers that matters; from seq on it is TCP's. */
struct ebb_transport {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__be16 length_flags;
	__be16 window;
};

/* A UDP header with the 8 bytes after it, which begin VXLAN and Geneve alike. */
struct ebb_udp_tunnel {
	__be16 sport;
	__be16 dport;
	__be16 len;
	__be16 check;
	__u8 flags; /* Geneve: version and length of the options */
	__u8 control;
	__be16 proto; /* VXLAN: the generic extension's, in the low byte */
	__be32 vni;   /* in the upper 24 bits */
};

#define EBB_VXLAN_ID	   0x08 /* the VNI is valid */
#define EBB_VXLAN_GENERIC  0x04 /* the header names the protocol inside */
#define EBB_GENEVE_VERSION 0xc0
#define EBB_GENEVE_OPTIONS 0x3f /* length in words of 4 bytes */
#define EBB_GENEVE_CONTROL 0x80 /* for the tunnel's ends, not for hosts behind them */

struct ebb_gre {
	__be16 flags;
	__be16 proto;
};

#define EBB_GRE_CHECKSUM 0x8000
#define EBB_GRE_KEY	 0x2000
#define EBB_GRE_SEQUENCE 0x1000
#define EBB_GRE_REFUSED	 0x4c07 /* routing, strict routes, recursion; every version but 0 */

enum ebb_verdict {
	EBB_OTHER = 0, /* not recorded: see reason */
	EBB_IP4 = 4,
	EBB_IP6 = 6,
};

/* The tunnel that a packet came in. */
enum ebb_tunnel {
	EBB_TUNNEL_NONE = 0,
	EBB_TUNNEL_VXLAN = 1,
	EBB_TUNNEL_GENEVE = 2,
	EBB_TUNNEL_GRE = 3,
	EBB_TUNNEL_IPIP = 4, /* IPv4 or IPv6 in IPv4 or IPv6 */
};

/* Why a packet, or the one inside a tunnel, was not read. */
enum ebb_reason {
	EBB_REASON_NONE = 0,
	EBB_REASON_NOT_IP = 1,	   /* ARP, LLC, MPLS and so on */
	EBB_REASON_TRUNCATED = 2,  /* the data end before the headers do */
	EBB_REASON_BAD_HEADER = 3, /* lengths or versions that lie */
	EBB_REASON_TOO_DEEP = 4,   /* more tags, extension headers or tunnels than the bounds */
	EBB_REASON_LINK = 5,	   /* a link layer that is not known */
	EBB_REASONS = 6,
};

/*
 * What the parsers make of a packet: of the innermost one, if it came in
 * tunnels. With the verdict EBB_OTHER only header and reason mean something.
 */
struct ebb_packet {
	union {
		struct ebb_fragment flow; /* what follows, up to icmp_code */
		struct {
			union {
				struct {
					__be32 src4;
					__be32 dst4;
				};
				struct {
					__u64 src6[2];
					__u64 dst6[2];
				};
			};
			__be16 sport;
			__be16 dport;
			__u32 tags;	 /* as in ebb_rest: the outermost packet's VLANs */
			__u32 tunnel_id; /* VNI or GRE key, 0 if there is none */
			__u8 tunnel;	 /* enum ebb_tunnel: the innermost tunnel */
			__u8 family;	 /* enum ebb_verdict, of the addresses */
			__u8 icmp_type;
			__u8 icmp_code;
		};
	};
	union {
		__u32 header;	   /* bytes of all headers in the data, which GSO repeats */
		__u32 payload_off; /* the same: where the transport payload begins */
	};
	/*
	 * Bytes of TCP or UDP payload as the IP header tells, not as the data go;
	 * 0 also for fragments, where it is not known.
	 */
	__u32 payload_len;
	__u32 seq; /* this, ack, window and flags: TCP's, 0 otherwise or where not known */
	__u32 ack;
	__u16 window; /* as sent, not scaled */
	__u16 flags;
	/*
	 * Beside a verdict other than EBB_OTHER: why the packet inside the tunnel
	 * was not read; the packet around it is what is recorded then.
	 */
	__u8 reason; /* enum ebb_reason */
	__u8 pad[3];
};

_Static_assert(__builtin_offsetof(struct ebb_packet, header) == sizeof(struct ebb_fragment),
	       "struct ebb_packet begins with a struct ebb_fragment");
_Static_assert(EBB_REASONS - 1 == EBB_TOTAL_REASONS, "each reason has its counter");

/* The length of the frame as it was on the wire. */
static __always_inline __u32 ebb_frame_len(const struct __sk_buff *skb)
{
	__u32 len = skb->len;

	/* Else clang loads from the one or the other offset, and the verifier wants a constant. */
	asm volatile("" : "+r"(len));
	if (ebb_replay)
		len = skb->mark;
	return len;
}

/* Adds a VLAN tag seen inside those that are in tags already. */
static __always_inline __u32 ebb_push_tag(__u32 tags, __u32 count, __u16 tci)
{
	if (count == 0)
		return tags | (__u32)(tci & 0xfff) << 8;
	if (count == 1)
		return tags | (__u32)(tci & 0xfff) << 20;
	return tags;
}

/* The length of a TCP header, at least its minimum whatever the packet claims. */
static __always_inline __u32 ebb_tcp_len(__u16 length_flags)
{
	__u32 len = (length_flags >> 12) * 4;

	return len < 20 ? 20 : len;
}

/* The tunnel that UDP datagrams to this port travel in; both ports in host order. */
static __always_inline enum ebb_tunnel ebb_udp_tunnel_kind(__u16 dport)
{
	__u16 vxlan = ebb_vxlan_port[0], legacy = ebb_vxlan_port[1], geneve = ebb_geneve_port;

	if ((vxlan && dport == vxlan) || (legacy && dport == legacy))
		return EBB_TUNNEL_VXLAN;
	if (geneve && dport == geneve)
		return EBB_TUNNEL_GENEVE;
	return EBB_TUNNEL_NONE;
}

#endif
