/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_PACKET_H
#define EBB_PACKET_H

/* Wire formats, and what the parsers make of a packet. */

#define EBB_ETH_LEN  14
#define EBB_VLAN_LEN 4
#define EBB_IP6_LEN  40

#define EBB_ETH_P_IP	 0x0800
#define EBB_ETH_P_IPV6	 0x86dd
#define EBB_ETH_P_8021Q	 0x8100
#define EBB_ETH_P_8021AD 0x88a8
#define EBB_ETH_P_QINQ	 0x9100 /* before 802.1ad, still seen */

/* Bounds of the general parser. */
#define EBB_MAX_TAGS	   4 /* VLAN tags in the data */
#define EBB_MAX_EXTENSIONS 8 /* IPv6 extension headers */

enum {
	EBB_IPPROTO_HOPOPTS = 0,
	EBB_IPPROTO_ICMP = 1,
	EBB_IPPROTO_TCP = 6,
	EBB_IPPROTO_UDP = 17,
	EBB_IPPROTO_DCCP = 33,
	EBB_IPPROTO_ROUTING = 43,
	EBB_IPPROTO_FRAGMENT = 44,
	EBB_IPPROTO_AH = 51,
	EBB_IPPROTO_ICMPV6 = 58,
	EBB_IPPROTO_DSTOPTS = 60,
	EBB_IPPROTO_SCTP = 132,
	EBB_IPPROTO_MH = 135,
	EBB_IPPROTO_UDPLITE = 136,
	EBB_IPPROTO_HIP = 139,
	EBB_IPPROTO_SHIM6 = 140,
};

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

/* The part of the transport headers that matters; flags and length are TCP's. */
struct ebb_transport {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__be16 length_flags;
};

enum ebb_verdict {
	EBB_OTHER = 0, /* not IP, or unreadable */
	EBB_IP4 = 4,
	EBB_IP6 = 6,
};

struct ebb_packet {
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
	__u32 tags;   /* as in ebb_rest */
	__u32 header; /* bytes of the headers in the data, which GSO repeats */
	__u16 flags;
	__u8 icmp_type;
	__u8 icmp_code;
};

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

#endif
