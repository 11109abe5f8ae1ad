/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_NUMBER_H
#define EBB_NUMBER_H

/* Numbers that Linux and IANA assign, for programs of every kind. */

#define EBB_AF_INET  2
#define EBB_AF_INET6 10

#define EBB_SOCK_RAW 3

/* skb->pkt_type, by the destination's MAC address (linux/if_packet.h). */
#define EBB_PACKET_HOST	     0
#define EBB_PACKET_BROADCAST 1
#define EBB_PACKET_MULTICAST 2
#define EBB_PACKET_LOOPBACK  5 /* a multicast's copy to the host that sends it */

enum {
	EBB_IPPROTO_HOPOPTS = 0,
	EBB_IPPROTO_ICMP = 1,
	EBB_IPPROTO_IPIP = 4,
	EBB_IPPROTO_TCP = 6,
	EBB_IPPROTO_UDP = 17,
	EBB_IPPROTO_DCCP = 33,
	EBB_IPPROTO_IPV6 = 41,
	EBB_IPPROTO_ROUTING = 43,
	EBB_IPPROTO_FRAGMENT = 44,
	EBB_IPPROTO_GRE = 47,
	EBB_IPPROTO_AH = 51,
	EBB_IPPROTO_ICMPV6 = 58,
	EBB_IPPROTO_DSTOPTS = 60,
	EBB_IPPROTO_SCTP = 132,
	EBB_IPPROTO_MH = 135,
	EBB_IPPROTO_UDPLITE = 136,
	EBB_IPPROTO_HIP = 139,
	EBB_IPPROTO_SHIM6 = 140,
	EBB_IPPROTO_RAW = 255,
	EBB_IPPROTO_MPTCP = 262, /* of sockets, never of packets */
};

/* States of a TCP socket (net/tcp_states.h). */
enum {
	EBB_TCP_ESTABLISHED = 1,
	EBB_TCP_SYN_RECV = 3,
	EBB_TCP_LISTEN = 10,
};

#endif
