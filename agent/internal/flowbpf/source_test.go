package flowbpf

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oneCPU keeps the test's thread on the CPU that it is on.
func oneCPU(t testing.TB) {
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

func sourcesNow(t testing.TB, d *Datapath) map[netip.Addr]Source {
	t.Helper()
	all := make(map[netip.Addr]Source)
	must(t, d.Sources(func(s *Source) {
		if _, ok := all[s.Addr]; ok {
			t.Errorf("%v twice", s.Addr)
		}
		all[s.Addr] = *s
	}))
	return all
}

// drainAll drains and holds the sources against the totals.
func drainAll(t testing.TB, d *Datapath) (map[netip.Addr]Source, Totals) {
	t.Helper()
	_, totals := drain(t, d)
	all := make(map[netip.Addr]Source)
	var overflow Counters
	for _, s := range d.DrainedSources() {
		all[s.Addr] = s
		overflow.Add(s.Overflow)
		if s.Targets > s.Flows {
			t.Errorf("%v: %d targets by %d flows", s.Addr, s.Targets, s.Flows)
		}
	}
	s := sum(totals)
	if overflow != s.Overflow {
		t.Errorf("the sources' overflow is %+v, that of the attach points %+v", overflow, s.Overflow)
	}
	return all, s
}

// near tells whether an estimate is within n standard errors.
func near(got uint64, want, n float64) bool {
	return math.Abs(float64(got)-want) <= max(n*SketchError*want, 2)
}

func TestScanOf20000PortsNamesTheScannerAndCountsItsTargets(t *testing.T) {
	const n = 20_000
	for name, change := range map[string]func(*Config){
		"the default map":               nil,
		"a map of 1,000":                func(c *Config) { c.MaxFlows = 1000 },
		"a map of 1, one source":        func(c *Config) { c.MaxFlows, c.MaxSources = 1, 1 },
		"a map of 1,000 that is shared": func(c *Config) { c.MaxFlows, c.sharedEntries = 1000, true },
	} {
		t.Run(name, func(t *testing.T) {
			d := load(t, func(c *Config) {
				c.SketchSeed = [2]uint64{1, 2}
				if change != nil {
					change(c)
				}
			})
			for range 3 { // the second and third use what the one before left
				scan(t, d, n)
				s := sourcesNow(t, d)[ip4a]
				if s.Flows < n || !near(s.Targets, n, 3) {
					t.Errorf("before the drain: %+v", s)
				}
				all, totals := drainAll(t, d)
				if totals.Seen != (Counters{n, n * 64}) {
					t.Errorf("seen %+v", totals.Seen)
				}
				if s := all[ip4a]; len(all) != 1 || !near(s.Targets, n, 3) || s.Overflow != totals.Overflow || s.Flows != n {
					t.Errorf("%d sources, the scanner: %+v", len(all), s)
				}
				if left := sourcesNow(t, d); len(left) != 0 {
					t.Errorf("after the drain: %v", left)
				}
			}
		})
	}
}

// Held against the same sketch made here, register by register.
func TestKernelSketchIsHyperLogLogOfSipHash(t *testing.T) {
	key := [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	d := load(t, func(c *Config) { c.MaxFlows, c.SketchSeed = 1, key })
	var four, six [sketchSize]uint8
	for port := range uint64(3000) {
		sport := uint16(9)
		f4 := ether(typeIP4, ip4{proto: protoUDP}.with(udp(sport, uint16(port), 4)))
		f6 := ether(typeIP6, ip6{next: protoTCP}.with(tcp(sport, uint16(port), syn, 0)))
		mustRun(t, d, &TestRun{Frame: f4})
		mustRun(t, d, &TestRun{Frame: f6})
		wire := uint64(bits.ReverseBytes16(uint16(port)))
		addHash(&four, sip13(key, uint64(binary.NativeEndian.Uint32(ip4b.AsSlice())), 0, wire<<8|protoUDP))
		b := ip6b.AsSlice()
		addHash(&six, sip13(key, binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:]), 1<<32|wire<<8|protoTCP))
	}
	for addr, want := range map[netip.Addr][sketchSize]uint8{ip4a: four, ip6a: six} {
		var k sourceKey
		b := addr.As16()
		for i := range k.Address {
			k.Address[i] = binary.NativeEndian.Uint32(b[4*i:])
		}
		var row source
		must(t, d.sources[d.generation].Lookup(&k, &row))
		if row.Registers != want {
			t.Errorf("%v: registers differ\n%v\n%v", addr, row.Registers, want)
		}
	}
}

func TestOnlyWhatBeginsAConversationIsATarget(t *testing.T) {
	cases := []struct {
		name   string
		packet func(port uint16) []byte
		want   uint64
	}{
		{"SYN", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, syn, 0)) }, 100},
		{"no flags at all", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, 0, 0)) }, 100},
		{"FIN alone", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, fin, 0)) }, 100},
		{"SYN-ACK", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, syn|ack, 0)) }, 0},
		{"RST", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, rst, 0)) }, 0},
		{"data", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(9, p, ack|psh, 5)) }, 0},
		{"UDP", func(p uint16) []byte { return ip4{proto: protoUDP}.with(udp(9, p, 5)) }, 100},
		{"one port again and again", func(p uint16) []byte { return ip4{proto: protoTCP}.with(tcp(p, 9, syn, 0)) }, 1},
	}
	d := load(t, func(c *Config) { c.SketchSeed = [2]uint64{3, 4} })
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			oneCPU(t)
			drain(t, d)
			for port := range uint16(100) {
				mustRun(t, d, &TestRun{Frame: ether(typeIP4, c.packet(1000+port))})
			}
			s := sourcesNow(t, d)[ip4a]
			if s.Flows != 100 || !near(s.Targets, float64(c.want), 3) || (c.want == 0) != (s.Targets == 0) {
				t.Errorf("%+v, want 100 flows to %d targets", s, c.want)
			}
		})
	}
}

// spoof sends n SYNs, each from an address of its own.
func spoof(t testing.TB, d *Datapath, n int) {
	frame := pad(ether(typeIP4, ip4{proto: protoTCP}.with(tcp(40000, 80, syn, 0))), 64)
	for i := range n {
		binary.BigEndian.PutUint32(frame[14+12:], 0x0b000000+uint32(i))
		mustRun(t, d, &TestRun{Frame: frame})
	}
}

func TestSourcesWithoutRoomAreOneCrowd(t *testing.T) {
	const sources, n = 500, 20_000
	d := load(t, func(c *Config) { c.MaxFlows, c.MaxSources, c.SketchSeed = 1000, sources, [2]uint64{5, 6} })
	for range 2 {
		spoof(t, d, n)
		scan(t, d, 100) // by one that came too late
		all, totals := drainAll(t, d)
		crowd, ok := all[netip.Addr{}]
		if named := len(all) - 1; !ok || named < sources || named > sources+8*d.cpus {
			t.Errorf("%d sources have names, want about %d; a crowd: %v", named, sources, ok)
		}
		if totals.Seen.Packets != n+100 || totals.Overflow.Packets < n+100-1000-uint64(8*d.cpus) {
			t.Errorf("totals %+v", totals)
		}
		if want := float64(n + 100 - (len(all) - 1)); float64(crowd.Flows) != want || !near(crowd.Targets, want, 3) {
			t.Errorf("the crowd %+v, want %v flows", crowd, want)
		}
	}
}

// Drains while several CPUs overflow: the sources must tell each interval's
// overflow to the byte.
func TestSourcesUnderTrafficTellTheWholeOverflow(t *testing.T) {
	d := load(t, func(c *Config) { c.MaxFlows, c.MaxSources = 100, 50 })
	const senders, repeat = 4, 3
	var wg sync.WaitGroup
	var runs atomic.Uint64
	stop := make(chan struct{})
	for sender := range senders {
		wg.Go(func() {
			frame := ether(typeIP4, ip4{proto: protoTCP}.with(tcp(1, 0, syn, 6)))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				binary.BigEndian.PutUint32(frame[14+12:], 0x0b000000+uint32(i%200)) // in common
				binary.BigEndian.PutUint16(frame[14+20+2:], uint16(i*senders+sender))
				if err := d.Run(&TestRun{Frame: frame, Repeat: repeat}); err != nil {
					t.Error(err)
					return
				}
				runs.Add(1)
			}
		})
	}
	var seen Counters
	interval := func() (overflowed bool) {
		_, totals := drainAll(t, d)
		seen.Add(totals.Seen)
		return totals.Overflow.Packets > 0
	}
	overflowed, begin := 0, time.Now()
	for overflowed < 10 && time.Since(begin) < time.Minute {
		if interval() {
			overflowed++
		}
	}
	close(stop)
	wg.Wait()
	interval()
	if seen.Packets < runs.Load()*repeat || overflowed < 10 {
		t.Errorf("%d packets sent, %+v seen, %d intervals overflowed", runs.Load()*repeat, seen, overflowed)
	}
	t.Logf("seen %+v", seen)
}

// A failed drain tells no sources; the drain after the next has them.
func TestSourcesWaitWithTheTotalsOfAFailedDrain(t *testing.T) {
	d := load(t, func(c *Config) { c.MaxFlows = 100 })
	scan(t, d, 1000)
	healthy := d.inner[d.generation][family4]
	broken, err := healthy.Clone()
	must(t, err)
	must(t, broken.Close())
	d.inner[0][family4] = broken
	if _, err := d.Drain(func([]Entry) {}); err == nil {
		t.Fatal("the drain of a closed map succeeded")
	}
	if s := d.DrainedSources(); len(s) != 0 {
		t.Errorf("the failed drain tells of %d sources", len(s))
	}
	d.inner[0][family4] = healthy
	drainAll(t, d)
	all, totals := drainAll(t, d)
	if totals.Overflow.Packets < 800 || all[ip4a].Overflow != totals.Overflow {
		t.Errorf("overflow %+v, by the source %+v", totals.Overflow, all[ip4a].Overflow)
	}
}

// With one set of targets only, a small error could be luck.
func TestEstimateHoldsForManyScans(t *testing.T) {
	const n = 2000
	d := load(t, func(c *Config) { c.MaxFlows, c.SketchSeed = 1, [2]uint64{7, 8} })
	frame := pad(ether(typeIP4, ip4{proto: protoTCP}.with(tcp(40000, 0, syn, 0))), 64)
	var below, above int
	for host := range byte(40) {
		frame[14+16] = 100 + host // the first byte of the target's address
		for port := range n {
			binary.BigEndian.PutUint16(frame[14+20+2:], uint16(port))
			mustRun(t, d, &TestRun{Frame: frame})
			mustRun(t, d, &TestRun{Frame: frame}) // twice, so that the number of packets caps nothing
		}
		s := sourcesNow(t, d)[ip4a]
		if !near(s.Targets, n, 3) {
			t.Errorf("host %d: %d targets", host, s.Targets)
		}
		if s.Targets < n {
			below++
		} else {
			above++
		}
		drain(t, d)
	}
	if below < 8 || above < 8 { // of 40, with a chance of one half each
		t.Errorf("%d estimates are below the truth, %d above", below, above)
	}
}

// What a second of warning costs in a flood from forged addresses.
func BenchmarkSources(b *testing.B) {
	d := load(b, func(c *Config) { c.MaxFlows = 1 })
	spoof(b, d, 20_000)
	b.ReportAllocs()
	for b.Loop() {
		must(b, d.Sources(func(*Source) {}))
	}
}
