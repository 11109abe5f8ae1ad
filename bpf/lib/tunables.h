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

/* Time comes from skb->tstamp, not from the clock: replay of a capture. */
volatile const __u8 ebb_packet_time = 0;

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

#endif
