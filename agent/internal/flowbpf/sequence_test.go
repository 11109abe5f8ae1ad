package flowbpf

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// step is one packet of a conversation between client (10.0.0.2, port 40000)
// and server (10.0.0.1, port 80): the client is side 1.
type step struct {
	fromServer bool
	flags      uint16
	at         time.Duration
}

func conversation(s step) []byte {
	if s.fromServer {
		return ether(typeIP4, ip4{src: ip4a, dst: ip4b, proto: 6}.with(tcp(80, 40000, s.flags, 0)))
	}
	return ether(typeIP4, ip4{src: ip4b, dst: ip4a, proto: 6}.with(tcp(40000, 80, s.flags, 0)))
}

func TestConversationIsOneEntryWithItsEvents(t *testing.T) {
	const ms = time.Millisecond
	stayOnCPU(t)
	d := load(t, func(c *Config) { c.Replay = true })
	// Any time: a capture's is not the clock's.
	const origin = 1_000_000_000_000_000
	steps := []step{
		{false, syn | ece | cwr, 0}, {true, syn | ack, 2 * ms}, {false, ack, 4 * ms},
		{false, ack | psh, 5 * ms}, {true, ack | ece, 7 * ms}, {false, syn, 8 * ms},
		{true, fin | ack, 9 * ms}, {false, fin | ack, 10 * ms}, {true, ack, 11 * ms}, {false, rst, 12 * ms},
	}
	size := uint64(len(conversation(steps[0])))
	for _, s := range steps {
		dir := Egress
		if s.fromServer {
			dir = Ingress
		}
		mustRun(t, d, &TestRun{Frame: conversation(s), Direction: dir, TimeNS: origin + int64(s.at)})
	}
	entries, totals := drain(t, d)
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1: %+v", len(entries), entries)
	}
	// Event times are in units of 1024 ns after the first packet's.
	at := func(d time.Duration) int64 { return origin + int64(d)>>10<<10 }
	want := Entry{
		A: ip4a, B: ip4b, APort: 80, BPort: 40000, Proto: 6,
		FirstNS: origin, LastNS: origin + int64(12*ms),
		FirstSide: 1, FirstDirection: Egress, Sampling: 1,
		Egress: Counters{6, 6 * size},
		Side: [2]Side{
			{Counters: Counters{4, 4 * size}, Flags: fin | syn | ack | ece, SYNACKNS: at(2 * ms), FINNS: at(9 * ms), Retransmits: entries[0].Side[0].Retransmits},
			{Counters: Counters{6, 6 * size}, Flags: fin | syn | rst | psh | ack | ece | cwr, SYNNS: origin, FINNS: at(10 * ms), RSTNS: at(12 * ms), ACKNS: at(4 * ms), Resets: 1, Retransmits: entries[0].Side[1].Retransmits},
		},
	}
	if entries[0] != want {
		t.Errorf("entry\n%+v, want\n%+v", entries[0], want)
	}
	wantTotals := []Totals{
		{Direction: Ingress, Sampling: 1, Seen: Counters{4, 4 * size}, Recorded: Counters{4, 4 * size}},
		{Direction: Egress, Sampling: 1, Seen: Counters{6, 6 * size}, Recorded: Counters{6, 6 * size}},
	}
	if !slices.EqualFunc(totals, wantTotals, func(a, b Totals) bool { a.RunNS = 0; return a == b }) {
		t.Errorf("totals %+v, want %+v", totals, wantTotals)
	}
}

// stayOnCPU keeps the test on one CPU: on another it would begin an entry anew,
// whose events tell less exactly when merged.
func stayOnCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var all, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &all))
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	must(t, unix.SchedSetaffinity(0, &one))
}

func TestEventsOfOneInstantKeepTheirOrder(t *testing.T) {
	stayOnCPU(t)
	d := load(t, func(c *Config) { c.Replay = true })
	for _, s := range []step{{false, syn, 0}, {true, syn | ack, 0}, {true, rst, 0}, {false, rst, 0}, {false, fin, 0}} {
		mustRun(t, d, &TestRun{Frame: conversation(s), TimeNS: 5000})
	}
	entries, _ := drain(t, d)
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	client, server := entries[0].Side[1], entries[0].Side[0]
	order := []int64{client.SYNNS, server.SYNACKNS, server.RSTNS, client.RSTNS, client.FINNS}
	if !slices.IsSorted(order) || len(slices.Compact(order)) != 5 || order[0] != 5000 {
		t.Errorf("times of the events %v, want five that rise from 5000", order)
	}
}

func TestTimeThatRunsBackwardsOverflowsNothing(t *testing.T) {
	stayOnCPU(t)
	d := load(t, func(c *Config) { c.Replay = true })
	for i, at := range []int64{1 << 50, 1 << 40, 1 << 60} { // the last is 36 years later
		mustRun(t, d, &TestRun{Frame: conversation(step{flags: []uint16{syn, fin, rst}[i]}), TimeNS: at})
	}
	entries, _ := drain(t, d)
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	s := entries[0].Side[1]
	if s.SYNNS != 1<<50 || s.FINNS <= s.SYNNS || s.RSTNS <= s.FINNS {
		t.Errorf("events %+v, want SYN, FIN, RST in this order", s)
	}
}

func TestFragmentsBelongToTheirFlow(t *testing.T) {
	const more = 0x2000
	body := make([]byte, 16)
	phantom := join(be16(6666, 7777), body) // payload that looks like ports
	cases := []struct {
		name   string
		frames [][]byte
		want   []*parsed // of the frames, in order; equal ones are one entry
	}{
		{"later fragments take the ports of the first", [][]byte{
			ether(typeIP4, ip4{proto: 17, id: 7, frag: more}.with(udp(1000, 2000, 16))),
			ether(typeIP4, ip4{proto: 17, id: 7, frag: more | 3}.with(phantom)),
			ether(typeIP4, ip4{proto: 17, id: 7, frag: 6}.with(phantom)),
		}, []*parsed{v4(17, 1000, 2000, 0), v4(17, 1000, 2000, 0), v4(17, 1000, 2000, 0)}},
		{"a later fragment of an unknown datagram has no ports", [][]byte{
			ether(typeIP4, ip4{proto: 17, id: 8, frag: 6}.with(phantom)),
		}, []*parsed{v4(17, 0, 0, 0)}},
		{"another id, protocol or VLAN is another datagram", [][]byte{
			ether(typeIP4, ip4{proto: 17, id: 9, frag: more}.with(udp(1000, 2000, 16))),
			ether(typeIP4, ip4{proto: 17, id: 10, frag: 3}.with(phantom)),
			ether(typeIP4, ip4{proto: 6, id: 9, frag: 3}.with(phantom)),
			ether(typeVLAN, tag(5, typeIP4), ip4{proto: 17, id: 9, frag: 3}.with(phantom)),
		}, []*parsed{v4(17, 1000, 2000, 0), v4(17, 0, 0, 0), v4(6, 0, 0, 0), v4(17, 0, 0, 0).tagged(5, 0)}},
		{"a tiny first fragment of TCP has ports but no flags", [][]byte{
			ether(typeIP4, ip4{proto: 6, id: 11, frag: more}.with(tcp(5, 6, syn, 0)[:8])),
			ether(typeIP4, ip4{proto: 6, id: 11, frag: 1}.with(tcp(0, 0, 0, 0)[8:])),
		}, []*parsed{v4(6, 5, 6, 0), v4(6, 5, 6, 0)}},
		{"a later fragment of ICMP has no type", [][]byte{
			ether(typeIP4, ip4{proto: 1, id: 12, frag: 3}.with([]byte{3, 4, 5, 6})),
		}, []*parsed{v4(1, 0, 0, 0)}},
		{"IPv6: the first fragment tells protocol and ports", [][]byte{
			ether(typeIP6, ip6{next: 44}.with(fragment6(60, 0, 1, true), extension(6, 0), tcp(7, 8, syn, 0))),
			ether(typeIP6, ip6{next: 44}.with(fragment6(60, 5, 1, false), phantom)),
			ether(typeIP6, ip6{next: 44}.with(fragment6(60, 5, 2, false), phantom)),
		}, []*parsed{v6(6, 7, 8, syn), v6(6, 7, 8, 0), v6(60, 0, 0, 0)}},
	}
	for _, general := range []bool{false, true} {
		d := load(t, func(c *Config) { c.generalParser = general })
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				want := make(map[Entry]Counters)
				for i, f := range c.frames {
					mustRun(t, d, &TestRun{Frame: f})
					e := c.want[i].entry(Counters{}, Ingress, &Entry{})
					n := want[identity(&e)]
					n.Add(Counters{1, uint64(len(f))})
					want[identity(&e)] = n
				}
				entries, totals := drain(t, d)
				if len(entries) != len(want) {
					t.Errorf("%d entries, want %d: %+v", len(entries), len(want), entries)
				}
				for i := range entries {
					n := entries[i].Side[0].Counters
					n.Add(entries[i].Side[1].Counters)
					if w := want[identity(&entries[i])]; n != w {
						t.Errorf("entry %+v counts %+v, want %+v", entries[i], n, w)
					}
				}
				if o := sum(totals).Other; o != (Counters{}) {
					t.Errorf("%+v is other, want none", o)
				}
			})
		}
	}
}

// identity is what tells an entry from others.
func identity(e *Entry) Entry {
	return Entry{A: e.A, B: e.B, APort: e.APort, BPort: e.BPort, Proto: e.Proto, VLAN: e.VLAN, InnerVLAN: e.InnerVLAN, Tunnel: e.Tunnel, TunnelID: e.TunnelID}
}

func TestSuperPacketsCountAsOnTheWire(t *testing.T) {
	ip, ip6h := ip4{proto: 6}, ip6{next: 6}
	options := ip4{proto: 6, options: make([]byte, 8)}
	cases := []struct {
		name   string
		run    TestRun
		header int
		segs   uint64
	}{
		{"TCP over IPv4", TestRun{Frame: ether(typeIP4, ip.with(tcp(1, 2, ack, 3000))), GSOSegs: 3, GSOSize: 1000}, 14 + 20 + 20, 3},
		{"TCP over IPv6 with options", TestRun{Frame: ether(typeIP6, ip6h.with(tcpOptions(1, 2, ack, 12, 2500))), GSOSegs: 3, GSOSize: 1000}, 14 + 40 + 32, 3},
		{"IPv4 with options", TestRun{Frame: ether(typeIP4, options.with(tcp(1, 2, ack, 2000))), GSOSegs: 2, GSOSize: 1000}, 14 + 28 + 20, 2},
		{"UDP in a VLAN", TestRun{Frame: ether(typeVLAN, tag(3, typeIP4), ip4{proto: 17}.with(udp(1, 2, 2800))), GSOSegs: 2, GSOSize: 1400}, 18 + 20 + 8, 2},
		{"from a virtual machine, segments not counted", TestRun{Frame: ether(typeIP4, ip.with(tcp(1, 2, ack, 2001))), GSOSize: 1000}, 14 + 20 + 20, 3},
		{"one segment", TestRun{Frame: ether(typeIP4, ip.with(tcp(1, 2, ack, 900))), GSOSegs: 1, GSOSize: 1000}, 0, 1},
		{"on egress the kernel's own sum counts", TestRun{Frame: ether(typeIP4, ip4{proto: 17}.with(udp(1, 4789, 2800))), Direction: Egress, GSOSegs: 2, GSOSize: 1400, WireLen: 14 + 20 + 8 + 2800 + 100}, 100, 2},
		{"inside a tunnel an old kernel's sum is too small", TestRun{Frame: ether(typeIP4, outer.of(17, vxlan(4789, 8, 7, ether(typeIP4, ip.with(tcp(1, 2, ack, 2000)))))), Direction: Egress, GSOSegs: 2, GSOSize: 1000, WireLen: 14 + 20 + 8 + 8 + 14 + 20 + 20 + 2000 + 34}, 14 + 20 + 8 + 8 + 14 + 20 + 20, 2},
		{"what cannot be parsed still has segments", TestRun{Frame: ether(typeARP, make([]byte, 2800)), GSOSegs: 2, GSOSize: 1400}, 0, 2},
	}
	d := load(t, nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			mustRun(t, d, &c.run)
			_, totals := drain(t, d)
			want := Counters{c.segs, uint64(len(c.run.Frame)) + (c.segs-1)*uint64(c.header)}
			if got := sum(totals).Seen; got != want {
				t.Errorf("seen %+v, want %+v", got, want)
			}
		})
	}
}
