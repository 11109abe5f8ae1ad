package flowbpf

import (
	"encoding/binary"
	"testing"
	"time"
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
	const top = 1<<32 - 100 // sequence numbers wrap around
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
