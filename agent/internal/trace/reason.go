package trace

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// reasons is the kernel's enum skb_drop_reason. Its numbers change from version
// to version, so they are taken from the running kernel.
type reasons struct {
	names  map[uint32]string
	noLoss [256]uint8 // ebb_no_loss of bpf/lib/loss.h

	unspecified uint32 // ebb_unspecified there
	unnamed     bool   // ebb_purge_unnamed there
	receiver    bool   // ebb_receiver_told there
}

const (
	unspecified = "SKB_DROP_REASON_NOT_SPECIFIED"
	queuePurge  = "SKB_DROP_REASON_QUEUE_PURGE" // since Linux 6.8

	oldSequence     = "SKB_DROP_REASON_TCP_OLD_SEQUENCE"     // since Linux 6.6; before it
	invalidSequence = "SKB_DROP_REASON_TCP_INVALID_SEQUENCE" // is for old ones, too
)

// Enum ebb_no_loss of bpf/lib/loss.h.
const (
	noLossAll   = 1
	noLossEmpty = 2
)

// noLoss tells of which drops the reasons are no loss to a conversation.
func noLoss() map[string]uint8 {
	return map[string]uint8{
		"SKB_NOT_DROPPED_YET":               noLossAll,
		"SKB_CONSUMED":                      noLossAll,
		"SKB_DROP_REASON_OTHERHOST":         noLossAll, // somebody else's, the interface only overheard it
		"SKB_DROP_REASON_PACKET_SOCK_ERROR": noLossAll, // a copy for somebody who captures and is too slow
		queuePurge:                          noLossAll, // it arrived; its receiver closed before reading it
		// A keep-alive or a probe of a closed window repeats an old number to be
		// answered (RFC 9293, 3.8.4 and 3.8.6.1).
		oldSequence: noLossEmpty,
	}
}

// errNoReason is why drops are not told on an old kernel.
var errNoReason = errors.New("the kernel does not say why it drops a packet, so that its drops cannot be told from other ends of packets: Linux 5.17 does")

// readReasons fails if this kernel's kfree_skb has no reason.
func readReasons() (reasons, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return reasons{}, fmt.Errorf("read kernel types: %w", err)
	}
	var tracepoint *btf.Typedef
	if err := spec.TypeByName("btf_trace_kfree_skb", &tracepoint); err != nil {
		return reasons{}, fmt.Errorf("find tracepoint: %w", err)
	}
	const reason, receiver = 3, 4 // its parameters, behind the data, the skb and the location
	pointer, ok := tracepoint.Type.(*btf.Pointer)
	if !ok {
		return reasons{}, errNoReason
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) <= reason {
		return reasons{}, errNoReason
	}
	var enum *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &enum); err != nil {
		return reasons{}, errNoReason
	}
	r := newReasons(enum)
	r.receiver = len(proto.Params) > receiver
	return r, nil
}

func newReasons(enum *btf.Enum) reasons {
	noLoss := noLoss()
	if !slices.ContainsFunc(enum.Values, func(v btf.EnumValue) bool { return v.Name == oldSequence }) {
		noLoss[invalidSequence] = noLoss[oldSequence]
	}
	r := reasons{names: make(map[uint32]string, len(enum.Values)), unspecified: math.MaxUint32, unnamed: true}
	for _, v := range enum.Values {
		r.names[uint32(v.Value)] = strings.TrimPrefix(v.Name, "SKB_DROP_REASON_")
		switch v.Name {
		case unspecified:
			r.unspecified = uint32(v.Value)
		case queuePurge:
			r.unnamed = false
		}
		if v.Value < uint64(len(r.noLoss)) {
			r.noLoss[v.Value] = noLoss[v.Name]
		}
	}
	return r
}

// name returns the kernel's name of a reason without its prefix. Those of
// subsystems, in the upper half, have none here.
func (r *reasons) name(reason uint32) string {
	if name, ok := r.names[reason]; ok && reason>>16 == 0 {
		return name
	}
	return fmt.Sprintf("0x%x", reason)
}
