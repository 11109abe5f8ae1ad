/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_TUNABLES_H
#define EBB_TUNABLES_H

/*
 * What user space sets before the programs are loaded. The verifier treats
 * these as constants, so a feature that is off costs nothing.
 */

/* Rows of ebb_totals in each generation: the number of possible CPUs. */
volatile const __u32 ebb_cpus = 1;

/* Slots of ebb_points, and the mask that maps an ifindex to its first slot. */
volatile const __u32 ebb_slots = 1;
volatile const __u32 ebb_slot_mask = 0;

/*
 * Counters are added to atomically and CPUs share entries. Needed where a
 * program can be preempted by another run of itself on its CPU (PREEMPT_RT).
 */
volatile const __u8 ebb_atomic = 0;

/* Parse common headers by direct access. Off only to test the general parser. */
volatile const __u8 ebb_fast_path = 1;

/* UDP destination ports of VXLAN (the IANA's, and Linux' own before it) and Geneve; 0 is none. */
volatile const __u16 ebb_vxlan_port[2] = {4789, 8472};
volatile const __u16 ebb_geneve_port = 6081;

/* Number of the network namespace that this instance of the programs is attached in. */
volatile const __u32 ebb_netns = 0;

/*
 * A capture is replayed: times come from skb->tstamp, and the length of the
 * frame on the wire is skb->mark, because the kernel takes only its beginning.
 */
volatile const __u8 ebb_replay = 0;

/* Features that user space can turn off. */
volatile const __u8 ebb_health = 1; /* retransmits, zero windows, round-trip times */
volatile const __u8 ebb_owner = 1;  /* whose socket it is */
volatile const __u8 ebb_dns = 1;    /* beginnings of payload, by protocol */
volatile const __u8 ebb_tls = 1;
volatile const __u8 ebb_http = 1;
volatile const __u8 ebb_quic = 1;

#endif
