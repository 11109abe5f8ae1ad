package app_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// synLength is the frame of a SYN without options: Ethernet, IPv4, TCP.
const synLength = 14 + 20 + 20

// sendSYNs sends n SYNs through a raw socket; to says from where and whereto
// the one with number i goes.
func sendSYNs(n int, to func(i int) (from, target netip.AddrPort)) error {
	return sendForged(flagSYN, n, to)
}

const flagSYN, flagRST = 2, 4

// sendForged sends n TCP segments with sequence number 0 and no data.
func sendForged(flags byte, n int, to func(i int) (from, target netip.AddrPort)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd)
	for i := range n {
		from, target := to(i)
		p := make([]byte, 40)
		p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP // the kernel fills in length and checksum
		copy(p[12:], from.Addr().AsSlice())
		copy(p[16:], target.Addr().AsSlice())
		t := p[20:]
		binary.BigEndian.PutUint16(t, from.Port())
		binary.BigEndian.PutUint16(t[2:], target.Port())
		t[12], t[13], t[14] = 5<<4, flags, 4
		binary.BigEndian.PutUint16(t[16:], checksumTCP(p))
		if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: target.Addr().As4()}); err != nil {
			return fmt.Errorf("send segment %d: %w", i, err)
		}
	}
	return nil
}

// checksumTCP is RFC 9293's, over the pseudo header and the TCP header of p.
func checksumTCP(p []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP + len(p) - 20)
	for i := 12; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func endpoint(addr string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
}

// warnings reads the batches of the stream from sequence next on, as they come,
// until enough says so, at most for limit.
func (r *running) warnings(next *uint64, limit time.Duration, enough func(*ebbwatch.Batch) bool) bool {
	r.t.Helper()
	var decoder ebbwatch.Decoder
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		msg, err := r.stream.GetMsg(r.t.Context(), *next)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // not there yet
			continue
		}
		*next++
		var b ebbwatch.Batch
		if err := decoder.Decode(msg.Data, &b); err != nil {
			r.t.Fatal(err)
		}
		if b.IntervalMS != 0 || b.Len() != 0 || len(b.Attach) != 0 {
			r.t.Fatalf("a drain, %d ms long, came before the warning", b.IntervalMS)
		}
		if enough(&b) {
			return true
		}
	}
	return false
}

func featureOf(b *ebbwatch.Batch, name string, egress bool) (f ebbwatch.Feature) {
	for _, x := range b.Features {
		if x.Interface == name && x.Egress == egress {
			f = x
		}
	}
	return f
}

// near tells whether an estimate is within three standard errors. By chance, one
// in 370 is not: with seed, all are the same each time.
func near(got uint64, want float64) bool {
	return math.Abs(float64(got)-want) <= 3*flowbpf.SketchError*want
}

var seed = [2]uint64{1, 2}

// soon is how long after its last packet a scan or flood is told in full: a
// second until the warning, and one for whatever else the host does.
const soon = 2 * time.Second

// With a minute between drains, a scan and a flood are told within two seconds.
// Sending them takes a fraction of a second, but seconds in an emulated machine.
func TestScanAndFloodAreToldBeforeTheDrain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	r := runAgent(t, func(c *app.Config) { c.DrainInterval, c.Datapath.SketchSeed = time.Minute, seed })
	r.watches(1)
	next := uint64(1)

	const ports = 3000
	peer.run(func() error {
		return sendSYNs(ports, func(i int) (netip.AddrPort, netip.AddrPort) {
			return endpoint("10.1.0.2", 40000), endpoint("10.1.0.1", 1+i)
		})
	})
	sent := time.Now()
	var syn, rst, flows uint64
	var scanner ebbwatch.Source
	told := r.warnings(&next, 10*time.Second, func(b *ebbwatch.Batch) bool {
		syn += featureOf(b, "w0", false).SYN
		rst += featureOf(b, "w0", true).RST
		flows += featureOf(b, "w0", false).NewFlows
		for _, s := range b.Sources {
			if s.Addr == netip.MustParseAddr("10.1.0.2") {
				scanner = s
			}
		}
		// Features are read before sources, which may have gone on meanwhile.
		return scanner.Flows >= ports && syn >= ports && flows >= ports && rst >= ports-5
	})
	if took := time.Since(sent); !told || took > soon {
		t.Errorf("the scan was told: %v, after %v", told, took)
	}
	// All ports but one are closed, and refuse.
	if syn != ports || rst < ports-5 || flows < ports || !near(scanner.Targets, ports) || scanner.Overflow != (ebbwatch.Counter{}) {
		t.Errorf("the scan: %d SYNs, %d RSTs, %d new flows, scanner %+v", syn, rst, flows, scanner)
	}

	const flood = 10_000
	peer.run(func() error {
		return sendSYNs(flood, func(i int) (netip.AddrPort, netip.AddrPort) {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1234), endpoint("10.1.0.1", 8080)
		})
	})
	sent = time.Now()
	syn = 0
	var synack, sizes, gaps uint64
	told = r.warnings(&next, 10*time.Second, func(b *ebbwatch.Batch) bool {
		in, out := featureOf(b, "w0", false), featureOf(b, "w0", true)
		syn += in.SYN
		synack += out.SYNACK
		if len(in.Sizes) > 5 {
			sizes += in.Sizes[5] // 32 to 63 bytes
		}
		for _, n := range in.Gaps {
			gaps += n
		}
		return syn >= flood && sizes >= flood
	})
	if took := time.Since(sent); !told || took > soon {
		t.Errorf("the flood was told: %v, after %v", told, took)
	}
	if syn != flood || synack != 0 || sizes < flood || gaps < flood/65/2 {
		t.Errorf("the flood: %d SYNs, %d SYN-ACKs, %d small frames, %d gaps", syn, synack, sizes, gaps)
	}
	r.stop()
}

// 20,000 SYNs to distinct ports, through the whole agent: all of them stand in
// records or in the overflow, the overflow is the scanner's to the byte, and its
// targets are told within three standard errors.
func TestScanOf20000PortsIsToldInFull(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	// A host that does not forward: nothing answers.
	peer.run(func() error { return route("10.9.0.0/16", "10.1.0.1") })
	for i, flows := range []uint32{65536, 1000} {
		t.Run(fmt.Sprintf("with room for %d flows", flows), func(t *testing.T) {
			r := runAgent(t, func(c *app.Config) {
				c.DrainInterval, c.Datapath.MaxFlows, c.Datapath.SketchSeed = time.Minute, flows, seed
			})
			r.watches(1)
			const n = 20_000
			peer.run(func() error {
				return sendSYNs(n, func(i int) (netip.AddrPort, netip.AddrPort) {
					return endpoint("10.1.0.2", 40000), endpoint("10.9.0.1", 1+i)
				})
			})
			time.Sleep(100 * time.Millisecond)
			records, seen := r.finish(ebbwatch.Counter{})
			var recorded ebbwatch.Counter
			for _, f := range records {
				if f.Src == netip.MustParseAddr("10.1.0.2") {
					recorded.Add(ebbwatch.Counter{Packets: f.SrcPackets, Bytes: f.SrcBytes})
				}
			}
			var scanner ebbwatch.Source
			var overflow ebbwatch.Counter
			for _, s := range r.sources {
				overflow.Add(s.Overflow)
				if s.Addr == netip.MustParseAddr("10.1.0.2") {
					scanner = s
				}
			}
			all := recorded
			all.Add(scanner.Overflow)
			if all != (ebbwatch.Counter{Packets: n, Bytes: n * synLength}) {
				t.Errorf("recorded %+v, overflow of the scanner %+v, of %+v seen", recorded, scanner.Overflow, seen["w0"])
			}
			if overflow != r.overflow || i == 0 && overflow != (ebbwatch.Counter{}) || i == 1 && scanner.Overflow.Packets < n-1100 {
				t.Errorf("the sources' overflow is %+v, that of the attach points %+v", overflow, r.overflow)
			}
			if !near(scanner.Targets, n) || scanner.Flows < n {
				t.Errorf("the scanner %+v, want %d targets", scanner, n)
			}
		})
	}
}
