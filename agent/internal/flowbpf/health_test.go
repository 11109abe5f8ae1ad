package flowbpf

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segment is one TCP segment of a conversation under test.
type segment struct {
	fromServer bool
	flags      uint16
	seq, ack   uint32
	payload    int
	window     uint16
	at         time.Duration
}

func (s segment) frame() []byte {
	src, dst, sport, dport := ip4b, ip4a, uint16(40000), uint16(80)
	if s.fromServer {
		src, dst, sport, dport = ip4a, ip4b, 80, 40000
	}
	t := tcp(sport, dport, s.flags, s.payload)
	binary.BigEndian.PutUint32(t[4:], s.seq)
	binary.BigEndian.PutUint32(t[8:], s.ack)
	binary.BigEndian.PutUint16(t[14:], s.window)
	return ether(typeIP4, ip4{src: src, dst: dst, proto: 6}.with(t))
}

// suffered is what a test expects of one side.
type suffered struct{ retransmits, zeroWindows, resets, rttUS uint32 }

func TestHealthOfAConnection(t *testing.T) {
	const ms = time.Millisecond
	const top = 1<<32 - 100                  // sequence numbers wrap around
	mib, gib := uint32(1<<20), uint32(1<<30) // variables, so that they wrap around, too
	for _, c := range []struct {
		name           string
		segments       []segment
		client, server suffered
	}{
		{"in order, nothing is wrong", []segment{
			{false, syn, 100, 0, 0, 9, 0}, {true, syn | ack, 500, 101, 0, 9, 10 * ms}, {false, ack, 101, 501, 0, 9, 20 * ms},
			{false, ack | psh, 101, 501, 50, 9, 21 * ms}, {true, ack, 501, 151, 0, 9, 31 * ms}, {false, fin | ack, 151, 501, 0, 9, 40 * ms},
		}, suffered{rttUS: 10000}, suffered{rttUS: 10000}},
		{"the same segment again", []segment{
			{false, ack, 100, 1, 50, 9, 0}, {false, ack, 100, 1, 50, 9, 1}, {false, ack, 150, 1, 50, 9, 2}, {false, ack, 100, 1, 50, 9, 3},
		}, suffered{retransmits: 2}, suffered{}},
		{"a segment that begins in what was sent and goes beyond", []segment{
			{false, ack, 100, 1, 50, 9, 0}, {false, ack, 120, 1, 80, 9, 1}, {false, ack, 200, 1, 10, 9, 2},
		}, suffered{retransmits: 1}, suffered{}},
		{"a hole is no retransmission, what fills it is", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 200, 1, 50, 9, 1}, {true, ack, 150, 1, 50, 9, 2},
		}, suffered{}, suffered{retransmits: 1}},
		{"sequence numbers that wrap around", []segment{
			{false, ack, top, 1, 150, 9, 0}, {false, ack, 50, 1, 50, 9, 1}, {false, ack, top, 1, 150, 9, 2},
		}, suffered{retransmits: 1}, suffered{}},
		{"SYN and FIN are sent again, too", []segment{
			{false, syn, 100, 0, 0, 9, 0}, {false, syn, 100, 0, 0, 9, 1}, {true, syn | ack, 5, 101, 0, 9, 2}, {true, syn | ack, 5, 101, 0, 9, 3},
			{true, fin | ack, 6, 101, 0, 9, 4}, {true, fin | ack, 6, 101, 0, 9, 5},
		}, suffered{retransmits: 1}, suffered{retransmits: 2}},
		{"keep-alives, with a byte of payload or without", []segment{
			{false, ack, 100, 1, 50, 9, 0}, {false, ack, 149, 1, 1, 9, 1}, {false, ack, 149, 1, 0, 9, 2}, {false, ack, 149, 1, 1, 9, 3},
		}, suffered{}, suffered{}},
		{"bare acknowledgements are no data", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 90, 1, 0, 9, 1}, {true, ack, 100, 1, 0, 9, 2},
		}, suffered{}, suffered{}},
		{"closed windows count, those of SYN, FIN and RST do not", []segment{
			{false, syn, 1, 0, 0, 0, 0}, {true, ack, 1, 2, 0, 0, 1}, {true, ack, 1, 2, 0, 0, 2}, {true, ack, 1, 2, 0, 5, 3}, {true, rst, 1, 0, 0, 0, 4}, {false, fin | ack, 2, 1, 0, 0, 5},
		}, suffered{}, suffered{zeroWindows: 2, resets: 1}},
		{"resets count by side", []segment{{false, rst, 1, 0, 0, 0, 0}, {false, rst | ack, 1, 0, 0, 0, 1}, {true, rst, 1, 0, 0, 0, 2}}, suffered{resets: 2}, suffered{resets: 1}},
		{"the round trip is smoothed as RFC 6298 has it", []segment{
			{true, ack, 1, 1, 10, 9, 0}, {true, ack, 11, 1, 10, 9, 1 * ms}, {false, ack, 1, 11, 0, 9, 8 * ms}, // the first byte's: 8 ms
			{true, ack, 21, 1, 10, 9, 10 * ms}, {false, ack, 1, 31, 0, 9, 26 * ms}, // 16 ms
		}, suffered{}, suffered{rttUS: 9000}},
		{"of what was sent again no round trip is taken", []segment{
			{true, ack, 1, 1, 10, 9, 0}, {true, ack, 1, 1, 10, 9, 5 * ms}, {false, ack, 1, 11, 0, 9, 8 * ms},
		}, suffered{}, suffered{retransmits: 1}},
		{"an acknowledgement of an earlier byte ends nothing", []segment{
			{true, ack, 1000, 1, 10, 9, 0}, {false, ack, 1, 1000, 0, 9, 1 * ms}, {false, ack, 1, 1010, 0, 9, 4 * ms},
		}, suffered{}, suffered{rttUS: 4000}},
		{"3 GiB passed elsewhere: the numbers seem to go back by 1 GiB", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 150 - gib - 1, 1, 50, 9, 1}, {true, ack, 200 - gib - 1, 1, 50, 9, 2}, {true, ack, 150 - gib - 1, 1, 50, 9, 3},
		}, suffered{}, suffered{retransmits: 1}},
		{"nearly 4 GiB passed elsewhere, which takes a while", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 150 - mib - 1, 1, 50, 9, 70 * ms}, {true, ack, 200 - mib - 1, 1, 50, 9, 70 * ms}, {true, ack, 150 - mib - 1, 1, 50, 9, 71 * ms},
			{true, ack, 100, 1, 50, 9, 72 * ms}, {true, ack, 150 - gib/2, 1, 50, 9, 5 * time.Minute},
		}, suffered{}, suffered{retransmits: 1}},
		{"after a timeout the beginning of what is in flight", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 150 - mib, 1, 50, 9, 300 * ms}, {true, ack, 150 - mib, 1, 50, 9, 900 * ms},
		}, suffered{}, suffered{retransmits: 2}},
		{"a recovery that takes long, of all that fits into the largest window", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 150 - gib, 1, 50, 9, 45 * ms}, {true, ack, 200 - gib, 1, 50, 9, 90 * ms}, {true, ack, 250 - gib, 1, 50, 9, 135 * ms},
		}, suffered{}, suffered{retransmits: 3}},
		{"a capture's time that falls back is no silence", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 50 - 2*mib, 1, 50, 9, -100 * ms},
		}, suffered{}, suffered{retransmits: 1}},
		{"the other side is not what ends a silence", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {false, ack, 1, 1, 50, 9, 60 * ms}, {true, ack, 50 - 2*mib, 1, 50, 9, 100 * ms},
		}, suffered{}, suffered{}},
		{"no round trip is taken across what passed elsewhere", []segment{
			{true, ack, 100, 1, 50, 9, 0}, {true, ack, 150 + mib + 1, 1, 50, 9, 100 * ms}, {false, ack, 1, 200 + mib + 1, 0, 9, 108 * ms},
			{true, ack, 300 + 2*mib, 1, 50, 9, 200 * ms}, {true, ack, 300 - mib, 1, 50, 9, 300 * ms}, {false, ack, 1, 350 - mib, 0, 9, 308 * ms},
		}, suffered{}, suffered{rttUS: 8000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := load(t, func(c *Config) { c.Replay = true })
			for _, s := range c.segments {
				mustRun(t, d, &TestRun{Frame: s.frame(), TimeNS: 1e15 + int64(s.at)})
			}
			entries, _ := drain(t, d)
			if len(entries) != 1 {
				t.Fatalf("%d entries", len(entries))
			}
			for i, want := range []suffered{c.server, c.client} { // the server has the lower address
				s := entries[0].Side[i]
				got := suffered{s.Retransmits, s.ZeroWindows, s.Resets, s.RTTUS}
				if near := got.rttUS+3 > want.rttUS && got.rttUS < want.rttUS+3; near {
					got.rttUS = want.rttUS // the unit is 1024 ns
				}
				if got != want {
					t.Errorf("side %d suffered %+v, want %+v", i, got, want)
				}
			}
		})
	}
}

// pinned runs do on a thread of its own and returns that thread's id. done
// receives do's error.
func pinned(do func() error, done chan<- error) (tid int) {
	id := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		id <- unix.Gettid()
		done <- do()
	}()
	return <-id
}

// twoCPUs returns two CPUs that the test may run on.
func twoCPUs(t *testing.T) (two [2]unix.CPUSet) {
	t.Helper()
	var all unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &all))
	found := 0
	for cpu := 0; cpu < 1024 && found < len(two); cpu++ {
		if all.IsSet(cpu) {
			two[found].Set(cpu)
			found++
		}
	}
	if found < len(two) {
		t.Skip("needs two CPUs")
	}
	return two
}

// Nearly 4 GiB pass on one CPU before the connection returns to the other, where
// its sequence numbers seem to have gone back.
func TestAConnectionThatReturnsToACPUSendsNothingAgain(t *testing.T) {
	cpus := twoCPUs(t)
	l := newLab(t)
	d := load(t, nil)
	must(t, d.Attach(here(loopback), 0))
	l.up(t)
	tl, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	client, err := net.DialTCP("tcp4", nil, tl.Addr().(*net.TCPAddr))
	must(t, err)
	server, err := tl.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { _, _, _ = client.Close(), server.Close(), tl.Close() })

	// Neither side copies: it is the sequence numbers that have to get far.
	const chunk = 64 << 20
	name := filepath.Join(t.TempDir(), "zeros")
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Truncate(name, chunk))
	zeros, err := os.Open(name)
	must(t, err)
	defer zeros.Close()
	again, done := make(chan struct{}, 1), make(chan error, 2)
	sender := pinned(func() error {
		for range again {
			if _, err := zeros.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.Copy(client, zeros); err != nil {
				return err
			}
		}
		return nil
	}, done)
	received := make(chan struct{}, 1)
	receiver := pinned(func() error { return discardChunks(server, chunk, received) }, done)
	for _, phase := range []struct{ cpu, chunks int }{{0, 2}, {1, 60}, {0, 2}} {
		must(t, unix.SchedSetaffinity(sender, &cpus[phase.cpu]))
		must(t, unix.SchedSetaffinity(receiver, &cpus[phase.cpu]))
		for range phase.chunks {
			again <- struct{}{} // has room
			select {
			case <-received:
			case err := <-done:
				t.Fatalf("the transfer ended: %v", err)
			}
		}
	}
	close(again)
	must(t, <-done)

	onCPU := make(map[uint32]uint64) // bytes, of large entries
	var k key4
	var f flow
	for entries := d.inner[d.generation][family4].Iterate(); entries.Next(&k, &f); {
		if bytes := f.Side[0].Bytes + f.Side[1].Bytes; bytes > chunk {
			onCPU[k.Rest.Place&0xffff] += bytes
		}
	}
	if len(onCPU) != 2 {
		t.Skipf("this kernel delivers loopback's packets elsewhere: %v bytes by CPU", onCPU)
	}
	entries, _ := drain(t, d)
	counted := uint64(0)
	for i := range entries {
		counted += uint64(entries[i].Side[0].Retransmits + entries[i].Side[1].Retransmits)
	}
	if _, retransmitted := outSegments(t); counted > retransmitted {
		t.Errorf("%d segments counted as sent again, the kernel sent %d; %v bytes by CPU", counted, retransmitted, onCPU)
	}
}

// discardChunks receives until the connection ends, without copying, and tells of each chunk.
func discardChunks(c *net.TCPConn, chunk int, received chan<- struct{}) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for sum := 0; ; {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, _, failed = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err := errors.Join(err, failed); err != nil || n == 0 {
			return err
		}
		for sum += n; sum >= chunk; sum -= chunk {
			received <- struct{}{}
		}
	}
}
