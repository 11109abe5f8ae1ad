package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/capture"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// Count is a number of packets and of the bytes of their frames.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Count) add(packets, bytes uint64) {
	c.Packets += packets
	c.Bytes += bytes
}

// Reasons to refuse a packet that replay has itself; the datapath's bear the same names.
const (
	reasonCut  = "truncated"    // what was captured of the frame ends inside its link-layer or IP header
	reasonLink = "unknown_link" // the frames of the interface begin with headers that are not known
)

// Totals is the account of a replay: seen = recorded + overflowed + refused.
type Totals struct {
	Seen       Count `json:"seen"`     // every packet of the captures
	Recorded   Count `json:"recorded"` // the sum over the records
	Overflowed Count `json:"overflowed"`
	Refused    struct {
		Count
		Reasons map[string]uint64 `json:"reasons"` // packets, only of those that occurred
	} `json:"refused"`
	Records       uint64 `json:"records"`
	Conversations uint64 `json:"conversations"` // records that are the first of theirs
	Evicted       uint64 `json:"evicted"`       // conversations forgotten early, for room
	First         string `json:"first"`         // time of the earliest packet, "" without packets
	Last          string `json:"last"`          // time of the latest packet

	firstNS, lastNS int64
}

func newTotals() Totals {
	t := Totals{}
	t.Refused.Reasons = map[string]uint64{}
	return t
}

// timeLayout is RFC 3339 with microseconds, always in UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func (t *Totals) see(p *capture.Packet) {
	if t.Seen.Packets == 0 {
		t.firstNS, t.lastNS = p.TimeNS, p.TimeNS
	}
	t.firstNS, t.lastNS = min(t.firstNS, p.TimeNS), max(t.lastNS, p.TimeNS)
	t.Seen.add(1, uint64(p.Length))
}

// refuse counts a packet that does not reach the datapath.
func (t *Totals) refuse(reason string, length uint32) {
	t.Refused.add(1, uint64(length))
	t.Refused.Reasons[reason]++
}

func (t *Totals) record(f *ebbwatch.Flow) {
	t.Records++
	if f.AgeMS == 0 {
		t.Conversations++
	}
	t.Recorded.add(f.SrcPackets+f.DstPackets, f.SrcBytes+f.DstBytes)
}

// account takes over what the datapath tells of a drain whose records add up to
// recorded, and checks that they do.
func (t *Totals) account(points []flowbpf.Totals, recorded Count) error {
	var sum Count
	for i := range points {
		p := &points[i]
		if !p.Balanced() {
			return fmt.Errorf("%w: the datapath saw %+v and accounts for %+v recorded, %+v overflowed and %+v refused", ErrImbalance, p.Seen, p.Recorded, p.Overflow, p.Other)
		}
		sum.add(p.Recorded.Packets, p.Recorded.Bytes)
		t.Overflowed.add(p.Overflow.Packets, p.Overflow.Bytes)
		t.Refused.add(p.Other.Packets, p.Other.Bytes)
		for i, name := range flowbpf.ReasonNames() {
			if n := p.Reasons[i]; n > 0 {
				t.Refused.Reasons[name] += n
			}
		}
	}
	if sum != recorded {
		return fmt.Errorf("%w: the datapath recorded %+v, the records say %+v", ErrImbalance, sum, recorded)
	}
	return nil
}

// ErrImbalance says that packets or bytes are unaccounted for: a mistake in this program.
var ErrImbalance = errors.New("the account does not balance")

// check completes the totals and proves them.
func (t *Totals) check() error {
	if t.Seen.Packets > 0 {
		t.First, t.Last = time.Unix(0, t.firstNS).UTC().Format(timeLayout), time.Unix(0, t.lastNS).UTC().Format(timeLayout)
	}
	sum := t.Recorded
	sum.add(t.Overflowed.Packets, t.Overflowed.Bytes)
	sum.add(t.Refused.Packets, t.Refused.Bytes)
	if sum != t.Seen {
		return fmt.Errorf("%w: %+v seen, %+v recorded, overflowed or refused", ErrImbalance, t.Seen, sum)
	}
	return nil
}
