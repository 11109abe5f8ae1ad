/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Accounts every packet that passes an interface to its flow. Attached by tcx,
 * or by tc before Linux 6.6; never changes a packet or its fate.
 */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "lib/types.h"
#include "lib/tunables.h"
#include "lib/maps.h"
#include "lib/account.h"

/* TCX_NEXT and TC_ACT_UNSPEC: the next program decides. */
#define EBB_PASS_ON -1

SEC("tc")
int ebb_ingress(struct __sk_buff *skb)
{
	ebb_account(skb, EBB_INGRESS);
	return EBB_PASS_ON;
}

SEC("tc")
int ebb_egress(struct __sk_buff *skb)
{
	ebb_account(skb, EBB_EGRESS);
	return EBB_PASS_ON;
}

/* What the kernel's test run costs by itself: the base line of the benchmark. */
SEC("tc")
int ebb_empty(struct __sk_buff *skb __attribute__((unused)))
{
	return EBB_PASS_ON;
}

char _license[] SEC("license") = "Dual BSD/GPL";
