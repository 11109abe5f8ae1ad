package conn

import (
	"net/netip"
	"testing"

	"github.com/ebbwatch/ebbwatch"
)

func TestICMPTypesAreThoseOfTheInitiator(t *testing.T) {
	type first struct{ from, typ, code uint8 } // packet of an interval
	const four, six = ebbwatch.ProtoICMP, ebbwatch.ProtoICMPv6
	for _, c := range []struct {
		name      string
		proto     uint8
		over6     bool
		intervals []first
		src       uint8
		want      [][2]uint8 // type and code of each interval's record
	}{
		{"an echo request begins", four, false, []first{{0, 8, 0}, {0, 8, 0}}, 0, [][2]uint8{{8, 0}, {8, 0}}},
		{"a later interval begins with the reply", four, false, []first{{0, 8, 0}, {1, 0, 0}, {0, 8, 0}}, 0, [][2]uint8{{8, 0}, {8, 0}, {8, 0}}},
		{"the reply is the first that is seen", four, false, []first{{0, 0, 0}, {1, 8, 0}, {0, 0, 0}}, 1, [][2]uint8{{8, 0}, {8, 0}, {8, 0}}},
		{"the same in ICMPv6", six, true, []first{{1, 129, 0}, {0, 128, 0}, {1, 129, 0}}, 0, [][2]uint8{{128, 0}, {128, 0}, {128, 0}}},
		{"a timestamp reply", four, false, []first{{0, 14, 0}}, 1, [][2]uint8{{13, 0}}},
		{"an error is its sender's own", four, false, []first{{1, 3, 1}, {1, 3, 3}}, 1, [][2]uint8{{3, 1}, {3, 3}}},
		{"an error from the other side says nothing of the request", four, false, []first{{0, 8, 0}, {1, 3, 13}}, 0, [][2]uint8{{8, 0}, {8, 0}}},
		{"both ping each other", four, false, []first{{0, 8, 0}, {1, 8, 0}, {0, 0, 0}}, 0, [][2]uint8{{8, 0}, {8, 0}, {8, 0}}},
		{"ICMPv6 has no reply of type 0", six, true, []first{{0, 0, 0}}, 0, [][2]uint8{{0, 0}}},
		{"ICMP inside IPv6 has no type", four, true, []first{{0, 0, 0}}, 0, [][2]uint8{{0, 0}}},
		{"what is advertised unasked is its sender's", six, true, []first{{1, 136, 0}}, 1, [][2]uint8{{136, 0}}},
		{"UDP has none", ebbwatch.ProtoUDP, false, []first{{0, 8, 1}}, 0, [][2]uint8{{0, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, DefaultConfig())
			for i, p := range c.intervals {
				e := packet{from: p.from}.as(c.proto)
				e.APort, e.BPort, e.ICMPType, e.ICMPCode = 0, 0, p.typ, p.code
				if c.over6 {
					e.A, e.B = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
				}
				src := [2]netip.Addr{e.A, e.B}[c.src]
				e.FirstNS = int64(i+1) * second
				e.LastNS = e.FirstNS
				records, _ := drain(table, int64(i+2)*second, e)
				if len(records) != 1 {
					t.Fatalf("interval %d: %d records", i, len(records))
				}
				f := records[0]
				sent := [2]uint64{f.SrcPackets, f.DstPackets}[p.from^c.src]
				if f.Src != src || f.ICMPType != c.want[i][0] || f.ICMPCode != c.want[i][1] || sent != 1 || f.Initiator != ebbwatch.InitiatorFirst {
					t.Errorf("interval %d: %+v", i, f)
				}
			}
		})
	}
}
