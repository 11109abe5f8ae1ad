/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_TYPES_H
#define EBB_TYPES_H

/*
 * The types that user space reads. Padding is explicit; agent/internal/flowbpf
 * takes the layout from BTF and tests it.
 */

enum ebb_direction {
	EBB_INGRESS = 0,
	EBB_EGRESS = 1,
};

/* How the frames of an interface begin. */
enum ebb_link {
	EBB_LINK_UNKNOWN = 0, /* everything is counted as other */
	EBB_LINK_ETHERNET = 1,
	EBB_LINK_IP = 2, /* no link-layer header: tun, ppp, IP tunnels */
};

/*
 * What tells flows apart beside the addresses. Each CPU has entries of its own,
 * so that it adds to them without atomic operations and no two CPUs can race to
 * insert one; user space merges them. Unlike a per-CPU map, this takes memory
 * only for the CPUs that really see the flow.
 */
struct ebb_rest {
	__be16 a_port;
	__be16 b_port;
	__u32 place;  /* bits 0-15 CPU, 16-18 enum ebb_tunnel, 19-31 slot of the interface */
	__u32 tags;   /* bits 0-7 protocol, 8-19 outermost VLAN id, 20-31 the next one */
	__u32 tunnel; /* VNI or GRE key */
};

#define EBB_PLACE_TUNNEL 16
#define EBB_PLACE_SLOT	 19

/* The endpoint a is the lower one, by address and then by port. */
struct ebb_key4 {
	__be32 a;
	__be32 b;
	struct ebb_rest rest;
};

struct ebb_key6 {
	__u64 a[2]; /* network byte order */
	__u64 b[2];
	struct ebb_rest rest;
};

struct ebb_counter {
	__u64 packets; /* as on the wire: a GSO super-packet counts its segments */
	__u64 bytes;   /* of frames with link-layer header and VLAN tags */
};

/* The first time a side did what decides a TCP connection's state. */
enum ebb_event {
	EBB_SYN = 0, /* without ACK */
	EBB_SYNACK = 1,
	EBB_FIN = 2,
	EBB_RST = 3,
	EBB_ACK = 4, /* the first packet with ACK and without SYN */
	EBB_EVENTS = 5,
};

/* One side's TCP, and its socket if that is on this host. */
struct ebb_side {
	__u32 next_seq;	   /* after the highest byte sent */
	__u32 sample_seq;  /* the other side's ACK from here on ends the sample */
	__u32 sample_at;   /* when it began, in event units; 0: no sample under way */
	__u32 rtt;	   /* smoothed, from samples, in event units; 0: none yet */
	__u32 kernel_rtt;  /* the socket's own smoothed RTT in microseconds */
	__u32 pid;	   /* the socket's owner; 0: unknown */
	__u32 retransmits; /* segments that begin below next_seq */
	__u16 zero_windows;
	__u16 resets;
	__u16 hint_left; /* bytes of a ClientHello or a request's head that are still wanted */
	__u8 hints;	 /* payload beginnings handed to user space */
	__u8 pad;
};

struct ebb_flow {
	__u64 first_ns; /* CLOCK_MONOTONIC, precise */
	__u64 last_ns;	/* the coarse clock, can be a tick below first_ns */
	struct ebb_counter side[2];
	struct ebb_counter egress; /* the part of both sides that passed the egress hook */
	__u16 flags[2];		   /* TCP flags of each side, OR-ed, bit 8 is AE */
	__u8 first_side;
	__u8 first_direction;
	__u8 icmp_type;
	__u8 icmp_code;
	/*
	 * 0: did not happen; else 1 + the time since first_ns in units of 1024 ns,
	 * raised where needed so that the entry's events are strictly ordered.
	 */
	__u32 event[2][EBB_EVENTS];
	__u32 last_event;
	__u16 sent_at[2]; /* when each side last sent what has a number, in units of 2^24 ns */
	struct ebb_side tcp[2];
};

/* Where an interface's totals stand. */
struct ebb_point {
	__u32 ifindex; /* 0: free */
	__u32 netns;   /* ebb_netns of the programs that it is for */
	__u32 link;    /* enum ebb_link */
	__u32 peer; /* 1 + id of the namespace (IFLA_LINK_NETNSID) of a veth's other end; 0: none */
};

/* enum ebb_reason, without "none": a test holds this number against it. */
#define EBB_TOTAL_REASONS 5

/*
 * One CPU's account of one attach point in one generation: two cache lines, of
 * which a recorded packet touches the first.
 */
struct ebb_total {
	struct ebb_counter seen;
	struct ebb_counter overflow;
	struct ebb_counter other;
	__u64 full;    /* packets of overflow that met a full map */
	__u64 refused; /* packets of overflow that the kernel refused otherwise */

	struct ebb_counter skipped; /* left out by sampling */
	__u64 run_ns; /* time spent in the program, estimated from one run in EBB_TIMED */
	__u32 reasons[EBB_TOTAL_REASONS]; /* packets of other */
	__u32 unread[EBB_TOTAL_REASONS];  /* recorded packets of a tunnel: why not what is inside */
};

/* What tc programs know of a socket. */
struct ebb_socket {
	__u32 pid; /* thread group id of its owner */
	__u32 pad;
};

#define EBB_HINT_SMALL 512
#define EBB_HINT_LARGE 2048

/*
 * The beginning of what one side says, or the continuation of a ClientHello or
 * a request that did not fit into the packet before.
 */
struct ebb_hint {
	__u64 a[2]; /* as in ebb_key6; IPv4 in the lower half of a[0] */
	__u64 b[2];
	struct ebb_rest rest;
	__u64 ns;
	__u32 seq;	   /* of the first byte; TCP only */
	__u32 payload_len; /* of the packet */
	__u16 len;	   /* bytes in data */
	__u8 side;
	__u8 family; /* enum ebb_verdict */
	__u8 continued;
	__u8 pad[3];
};

/* Which datagram a fragment belongs to. */
struct ebb_fragment_key {
	__u64 src[2]; /* IPv4: in the first half */
	__u64 dst[2];
	__u32 id;
	__u32 ifindex;
	__u32 tags;	 /* as in ebb_rest; IPv6: without protocol */
	__u32 tunnel_id; /* of the tunnel around the fragment, as is the kind */
	__u32 tunnel;
	__u32 pad;
};

/*
 * What only the first fragment of a datagram tells: the flow, which is that of
 * the innermost packet if the datagram is a tunnel's. It is how struct
 * ebb_packet begins.
 */
struct ebb_fragment {
	__u64 addresses[4];
	__be16 sport;
	__be16 dport;
	__u32 tags;
	__u32 tunnel_id;
	__u8 tunnel;
	__u8 family;
	__u8 icmp_type;
	__u8 icmp_code;
};

#endif
