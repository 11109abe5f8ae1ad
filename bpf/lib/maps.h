/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_MAPS_H
#define EBB_MAPS_H

/* What an update of a map can return, negative. */
#define EBB_E2BIG  7
#define EBB_EEXIST 17

/*
 * Double buffering. There are two generations of everything that counts: a
 * flow map for each address family and a row of totals for each CPU. A program
 * reads ebb_generation once, first, and touches nothing of the other one, so
 * the sums of a generation always agree.
 *
 * To drain, user space writes the other number, then updates a slot of the map
 * of maps with what it already holds: that system call returns after a grace
 * period (maybe_wait_bpf_programs in kernel/bpf/syscall.c), and since programs
 * run inside RCU read-side critical sections, no CPU still writes to the old
 * generation then.
 */
__u32 ebb_generation = 0;

/*
 * Set when a flow map of the generation had no room. Nothing is deleted from a
 * map in use, so it stays full, and asking again would only cost (an insert
 * into a full preallocated map searches every CPU's free list).
 */
__u32 ebb_full[2] = {};

/* Of each generation: one packet in ebb_sample_mask + 1 is counted. A power of two less one. */
__u32 ebb_sample_mask[2] = {};

/* Hints that found no room in the ring. */
__u64 ebb_hints_lost = 0;

/* Clang leaves types that occur only in an inner map out of BTF; these keep them in. */
const struct ebb_key4 *ebb_type_key4 __attribute__((unused));
const struct ebb_key6 *ebb_type_key6 __attribute__((unused));
const struct ebb_flow *ebb_type_flow __attribute__((unused));
const struct ebb_hint *ebb_type_hint __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_HASH);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(struct ebb_key4));
			__uint(value_size, sizeof(struct ebb_flow));
		});
} ebb_flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_HASH);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(struct ebb_key6));
			__uint(value_size, sizeof(struct ebb_flow));
		});
} ebb_flows6 SEC(".maps");

/*
 * Indexed by generation, CPU, slot, direction. A plain array with a row for
 * each CPU: user space reads it through a mapping without a system call, and
 * its lookup is inlined on every kernel.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ebb_total);
} ebb_totals SEC(".maps");

/*
 * A hash table of interfaces with EBB_PROBES slots to look at from
 * 1 + ((ifindex + netns * EBB_PROBES) & ebb_slot_mask) on; only user space writes it. Slot 0
 * accounts what comes from an interface that is not in the table.
 */
#define EBB_PROBES 8

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ebb_point);
} ebb_points SEC(".maps");

/*
 * Ports of datagrams of which the first fragment was seen. Evicting an old one
 * loses no count: its later fragments are then recorded without ports.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ebb_fragment_key);
	__type(value, struct ebb_fragment);
} ebb_fragments SEC(".maps");

/* The owner of a socket; an accepted one has its listener's. Filled by owner.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct ebb_socket);
} ebb_sockets SEC(".maps");

/* struct ebb_hint with the bytes after it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ebb_hints SEC(".maps");

#endif
