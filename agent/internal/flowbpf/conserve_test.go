package flowbpf

import (
	"encoding/binary"
	"sync"
	"testing"
)

// scan pushes n SYNs of 64 bytes to distinct ports.
func scan(t testing.TB, d *Datapath, n int) {
	frame := pad(ether(typeIP4, ip4{proto: 6}.with(tcp(40000, 0, syn, 0))), 64)
	for port := range n {
		binary.BigEndian.PutUint16(frame[14+20+2:], uint16(port))
		mustRun(t, d, &TestRun{Frame: frame})
	}
}

func TestScanOf20000PortsIsAccountedInFull(t *testing.T) {
	const n = 20_000
	cases := []struct {
		name   string
		change func(*Config)
		flows  int // entries, at most; the rest must be overflow
	}{
		{"the default map", func(c *Config) { c.MaxFlows = DefaultConfig().MaxFlows }, n},
		{"a map of 5,000", func(c *Config) { c.MaxFlows = 5000 }, 5000},
		{"a map of 1", func(c *Config) { c.MaxFlows = 1 }, 1},
		{"a map of 5,000 that CPUs share", func(c *Config) { c.MaxFlows, c.sharedEntries = 5000, true }, 5000},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := load(t, c.change)
			for range 3 { // the second and third use what the one before left
				scan(t, d, n)
				if got, want := d.Full(), c.flows < n; got != want {
					t.Errorf("full is %v, want %v", got, want)
				}
				entries, totals := drain(t, d)
				s := sum(totals)
				if s.Seen != (Counters{n, n * 64}) || s.Other != (Counters{}) || s.Refused != 0 {
					t.Errorf("totals %+v, want %d packets of 64 bytes seen, none other or refused", s, n)
				}
				// A preallocated map has a few spare elements for each CPU.
				if got := len(entries); got < min(c.flows, n) || got > c.flows+8*d.cpus || got > n {
					t.Errorf("%d entries, want about %d", got, c.flows)
				}
				if s.Overflow.Packets != uint64(n-len(entries)) {
					t.Errorf("overflow of %d packets beside %d entries", s.Overflow.Packets, len(entries))
				}
			}
		})
	}
}

// Drains while several CPUs count into few and many flows: every interval must
// balance on its own, and all of them together hold what was sent.
func TestDrainUnderTrafficConservesEveryPacket(t *testing.T) {
	for _, shared := range []bool{false, true} {
		name := "each CPU has entries of its own"
		if shared {
			name = "CPUs share entries"
		}
		t.Run(name, func(t *testing.T) {
			d := load(t, func(c *Config) { c.MaxFlows, c.sharedEntries = 2000, shared })
			const senders, rounds, repeat = 4, 3000, 50
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for range senders {
				wg.Go(func() {
					frame := ether(typeIP4, ip4{proto: 6}.with(tcp(1, 0, syn|ack, 6)))
					for i := range rounds * 10 {
						binary.BigEndian.PutUint16(frame[14+20+2:], uint16(i%rounds))
						if err := d.Run(&TestRun{Frame: frame, Repeat: repeat}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			go func() { wg.Wait(); close(stop) }()
			var seen Counters
			intervals := 0
			for done := false; !done; intervals++ {
				select {
				case <-stop:
					done = true
				default:
				}
				_, totals := drain(t, d)
				seen.Add(sum(totals).Seen)
			}
			// A signal can make the kernel repeat more often than asked, never less.
			if sent := uint64(senders * rounds * 10 * repeat); seen.Packets < sent || seen.Bytes != seen.Packets*60 {
				t.Errorf("%d intervals saw %+v, want at least %d packets of 60 bytes", intervals, seen, sent)
			}
			if intervals < 10 {
				t.Errorf("only %d intervals", intervals)
			}
			t.Logf("%d intervals, %d packets", intervals, seen.Packets)
		})
	}
}

func TestEntriesOfSeveralCPUsAreMerged(t *testing.T) {
	early := flow{FirstNs: 1_000_000, LastNs: 1_500_000, FirstSide: 1, FirstDirection: 1, IcmpType: 8, IcmpCode: 1}
	early.Side[1].Packets, early.Side[1].Bytes = 2, 200
	early.Egress.Packets, early.Egress.Bytes = 2, 200
	early.Flags = [2]uint16{0, syn}
	early.Event[1] = [5]uint32{1, 0, 9, 0}
	late := flow{FirstNs: 1_000_000 + 4<<10, LastNs: 9_000_000, FirstSide: 0, IcmpType: 3}
	late.Side[0].Packets, late.Side[0].Bytes = 3, 300
	late.Side[1].Packets, late.Side[1].Bytes = 1, 50
	late.Flags = [2]uint16{syn | ack, fin}
	late.Event = [2][5]uint32{{0, 1, 0, 0}, {0, 0, 3, 7}}

	want := early
	want.LastNs = 9_000_000
	want.Side[0].Packets, want.Side[0].Bytes = 3, 300
	want.Side[1].Packets, want.Side[1].Bytes = 3, 250
	want.Flags = [2]uint16{syn | ack, syn | fin}
	want.Event = [2][5]uint32{{0, 5, 0, 0}, {1, 0, 7, 11}}
	for _, order := range []string{"early first", "late first"} {
		to, from := early, late
		if order == "late first" {
			to, from = late, early
		}
		merge(&to, &from)
		if to != want {
			t.Errorf("%s:\n%+v, want\n%+v", order, to, want)
		}
	}
}
