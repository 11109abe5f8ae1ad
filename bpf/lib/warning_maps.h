/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef EBB_WARNING_MAPS_H
#define EBB_WARNING_MAPS_H

#include "types.h"

/* What early warning counts, beside the flows: feature.h and source.h fill it. */

#define EBB_SIZE_BUCKETS 18 /* the last one: 128 KiB and more */
#define EBB_GAP_BUCKETS	 34 /* the last one: 8.6 s and more */

/*
 * One CPU's account of one attach point since the start: four cache lines.
 * User space takes differences, modulo 2^32 where a counter has 32 bits.
 */
struct ebb_feature {
	__u64 bytes;
	__u64 mark_ns; /* when the frame passed that begins a gap, 0 if none is open */
	__u32 frames;  /* as the hook sees them: a super-packet is one */
	__u32 due;     /* the next frame to begin a gap */
	__u32 syn;     /* without ACK */
	__u32 synack;
	__u32 fin;
	__u32 rst;
	__u32 new_flows;
	__u32 overflow;		       /* packets */
	__u32 sizes[EBB_SIZE_BUCKETS]; /* packets by log2 of their bytes: their sum is what passed
					*/
	__u32 gaps[EBB_GAP_BUCKETS];   /* by log2 of the nanoseconds */
};

/* Registers of a sketch of distinct targets. A power of two, at most 256. */
#define EBB_SKETCH 256

/* What one address began to send to in one generation. */
struct ebb_source {
	__u64 flows;		     /* entries that its packets made */
	struct ebb_counter overflow; /* exact */
	__u8 registers[EBB_SKETCH];
};

struct ebb_source_key {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d */
};

/* Keeps them in BTF: the map of maps hides its inner types. */
const struct ebb_source_key *ebb_type_source_key __attribute__((unused));

/* Indexed by CPU, slot, direction. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ebb_feature);
} ebb_features SEC(".maps");

/* Sources of each generation, swapped with the flows. CPUs share the entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_HASH);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(struct ebb_source_key));
			__uint(value_size, sizeof(struct ebb_source));
		});
} ebb_sources SEC(".maps");

/*
 * What had no room in ebb_sources, by generation and CPU. The sketch is of
 * pairs of a source and a target there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ebb_source);
} ebb_crowd SEC(".maps");

/* Set when ebb_sources of the generation had no room: see ebb_full. */
__u32 ebb_sources_full[2] = {};

/* What a new source begins as: too large for the stack. */
volatile const struct ebb_source ebb_source_empty = {};

/* Count features. */
volatile const __u8 ebb_feature_on = 1;

/* Key of the sketches' hash: random, so that nobody can choose targets that collide. */
volatile const __u64 ebb_sketch_seed[2] = {};

#endif
