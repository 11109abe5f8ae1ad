package flowbpf

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Why a packet is not read: enum ebb_reason. A test holds them against the C.
const (
	notIP, truncated, badHeader, tooDeep, unknownLink uint8 = 1, 2, 3, 4, 5
)

// The kinds of tunnel: enum ebb_tunnel.
const (
	inVXLAN, inGeneve, inGRE, inIPIP uint8 = 1, 2, 3, 4
)

// packet is struct ebb_packet as far as it means something, beside the verdict.
type packet struct {
	family       uint8 // 4, 6, or 0: not recorded
	reason       uint8
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
	vlan, inner  uint16
	tunnel       uint8
	tunnelID     uint32
	typ, code    uint8
	header       uint32
	payload      uint32
	seq, ack     uint32
	window       uint16
	flags        uint16
}

// parser runs the parsers alone, without accounting.
type parser struct {
	objs struct {
		Fast      *ebpf.Program  `ebpf:"ebb_test_fast"`
		General   *ebpf.Program  `ebpf:"ebb_test_general"`
		Fragments *ebpf.Map      `ebpf:"ebb_fragments"`
		Result    *ebpf.Variable `ebpf:"ebb_result"`
		Verdict   *ebpf.Variable `ebpf:"ebb_verdict"`
	}
}

func newParser(t testing.TB) *parser { return newParserFor(t, false) }

// newParserFor makes one that takes frames' lengths from the capture, if so asked.
func newParserFor(t testing.TB, replay bool) *parser {
	t.Helper()
	needRoot(t)
	spec, err := objects.LoadParser()
	must(t, err)
	must(t, spec.Variables[objects.ParserVarEbbReplay].Set(boolByte(replay)))
	p := &parser{}
	must(t, spec.LoadAndAssign(&p.objs, nil))
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{p.objs.Fast, p.objs.General, p.objs.Fragments} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// run reports false if the kernel refuses to run the frame: it is too short. wire
// is the length of a replayed frame.
func (p *parser) run(t testing.TB, prog *ebpf.Program, frame []byte, link, wire uint32) (packet, bool) {
	t.Helper()
	var ctx [192]byte
	binary.NativeEndian.PutUint32(ctx[8:], wire)  // mark
	binary.NativeEndian.PutUint32(ctx[32:], link) // priority
	if _, err := prog.Run(&ebpf.RunOptions{Data: frame, Context: &ctx}); err != nil {
		return packet{}, false
	}
	var (
		r       objects.ParserEbbPacket
		verdict uint32
	)
	must(t, p.objs.Result.Get(&r))
	must(t, p.objs.Verdict.Get(&verdict))
	return decode(t, &r, verdict), true
}

// general and fast run the one parser and the other. The fast path sees only
// Ethernet; it reports false also for what it leaves to the general parser.
func (p *parser) general(t testing.TB, frame []byte, ip bool) (packet, bool) {
	link := uint32(linkEthernet)
	if ip {
		link = linkIP
	}
	return p.run(t, p.objs.General, frame, link, 0)
}

func (p *parser) fast(t testing.TB, frame []byte) (packet, bool) {
	v, ran := p.run(t, p.objs.Fast, frame, linkEthernet, 0)
	return v, ran && v.family != 0
}

func decode(t testing.TB, r *objects.ParserEbbPacket, verdict uint32) packet {
	t.Helper()
	if verdict == 0 {
		return packet{reason: r.Reason}
	}
	if uint32(r.Flow.Family) != verdict {
		t.Errorf("family %d beside verdict %d", r.Flow.Family, verdict)
	}
	tags := r.Flow.Tags
	out := packet{
		family: r.Flow.Family, reason: r.Reason,
		sport: bits.ReverseBytes16(r.Flow.Sport), dport: bits.ReverseBytes16(r.Flow.Dport),
		proto: uint8(tags), vlan: uint16(tags >> 8 & 0xfff), inner: uint16(tags >> 20),
		tunnel: r.Flow.Tunnel, tunnelID: r.Flow.TunnelId,
		typ: r.Flow.IcmpType, code: r.Flow.IcmpCode, header: r.Header, payload: r.PayloadLen,
		seq: r.Seq, ack: r.Ack, window: r.Window, flags: r.Flags,
	}
	var b [32]byte
	for i, v := range r.Flow.Addresses {
		binary.NativeEndian.PutUint64(b[8*i:], v)
	}
	if verdict == 4 {
		out.src, out.dst = netip.AddrFrom4([4]byte(b[0:4])), netip.AddrFrom4([4]byte(b[4:8]))
	} else {
		out.src, out.dst = netip.AddrFrom16([16]byte(b[:16])), netip.AddrFrom16([16]byte(b[16:]))
	}
	return out
}
