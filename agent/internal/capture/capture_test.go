package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
)

var (
	little = binary.LittleEndian
	big    = binary.BigEndian
)

// second is a time with a fraction that neither microseconds nor halves can hold.
const second = int64(1_700_000_000_123_456_789)

func frame(n int) []byte { return bytes.Repeat([]byte{0xab}, n) }

// all reads a capture to its end. The packets' data are copies.
func all(data []byte) ([]Packet, error) {
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var packets []Packet
	for {
		p, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one would be a mistake
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, *p)
		packets[len(packets)-1].Data = bytes.Clone(p.Data)
	}
}

func ng(order binary.ByteOrder, build func(*ct.NG)) []byte {
	g := &ct.NG{Order: order}
	g.Section()
	build(g)
	return g.Bytes()
}

func TestReader(t *testing.T) {
	two := []ct.Packet{{TimeNS: second, Data: frame(60)}, {TimeNS: second + 5e9, Data: frame(5), Length: 1500}}
	want := func(resolution, offset0, offset1 int64) []Packet {
		return []Packet{
			{Number: 1, Offset: offset0, TimeNS: second / resolution * resolution, Data: frame(60), Length: 60, Link: 1},
			{Number: 2, Offset: offset1, TimeNS: (second + 5e9) / resolution * resolution, Data: frame(5), Length: 1500, Link: 1},
		}
	}
	for name, test := range map[string]struct {
		file []byte
		want []Packet
	}{
		"pcap, microseconds, little endian": {ct.PCAP(little, ct.Micro, 1, two...), want(1000, 24, 100)},
		"pcap, microseconds, big endian":    {ct.PCAP(big, ct.Micro, 1, two...), want(1000, 24, 100)},
		"pcap, nanoseconds, little endian":  {ct.PCAP(little, ct.Nano, 1, two...), want(1, 24, 100)},
		"pcap, nanoseconds, big endian":     {ct.PCAP(big, ct.Nano, 1, two...), want(1, 24, 100)},
		"pcap, modified":                    {ct.PCAP(little, ct.Modified, 1, two...), want(1000, 24, 108)},
		"pcap, compressed":                  {ct.Gzip(ct.PCAP(little, ct.Nano, 1, two...)), want(1, 24, 100)},
		"pcap, compressed in two members":   {slices.Concat(ct.Gzip(ct.PCAP(little, ct.Nano, 1, two[0])), ct.Gzip(ct.PCAP(little, ct.Nano, 1, two[1])[24:])), want(1, 24, 100)},
		"pcap without packets":              {ct.PCAP(little, ct.Micro, 1), nil},
		"pcap with a frame check sequence": {ct.PCAP(little, ct.Micro, 1|1<<26|2<<28, ct.Packet{Data: frame(64)}), []Packet{
			{Number: 1, Offset: 24, Data: frame(60), Length: 60, Link: 1},
		}},
		"pcap with more captured than there was": {ct.PCAP(little, ct.Micro, 101, ct.Packet{Data: frame(64), Length: 40}), []Packet{
			{Number: 1, Offset: 24, Data: frame(40), Length: 40, Link: 101},
		}},
		"pcapng, little endian": {ng(little, func(g *ct.NG) {
			g.Interface(1, 0)
			g.Enhanced(0, uint64(two[0].TimeNS/1000), two[0])
			g.Block(5, make([]byte, 16)) // statistics
			g.Obsolete(0, uint64(two[1].TimeNS/1000), two[1])
		}), want(1000, 48, 168)},
		"pcapng, big endian, nanoseconds": {ng(big, func(g *ct.NG) {
			g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{9}})
			g.Enhanced(0, uint64(two[0].TimeNS), two[0], ct.Option{Code: 1, Value: []byte("a comment")})
			g.Enhanced(0, uint64(two[1].TimeNS), two[1])
		}), want(1, 60, 172)},
		"pcapng, a resolution of 2^-20 s": {ng(little, func(g *ct.NG) {
			g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{0x80 | 20}})
			g.Enhanced(0, 7<<20|3<<18, ct.Packet{Data: frame(4)})
		}), []Packet{{Number: 1, Offset: 60, TimeNS: 7_750_000_000, Data: frame(4), Length: 4, Link: 1}}},
		"pcapng, a resolution of 2^-40 s": {ng(little, func(g *ct.NG) {
			g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{0x80 | 40}})
			g.Enhanced(0, 7<<40|1<<39, ct.Packet{Data: frame(4)})
		}), []Packet{{Number: 1, Offset: 60, TimeNS: 7_500_000_000, Data: frame(4), Length: 4, Link: 1}}},
		"pcapng, whole seconds with an offset": {ng(little, func(g *ct.NG) {
			g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{0}}, ct.Option{Code: ct.Offset, Value: little.AppendUint64(nil, ^uint64(0))})
			g.Enhanced(0, 8, ct.Packet{Data: frame(4)})
		}), []Packet{{Number: 1, Offset: 72, TimeNS: 7e9, Data: frame(4), Length: 4, Link: 1}}},
		"pcapng, interfaces of several links, and sections of both byte orders": {slices.Concat(ng(little, func(g *ct.NG) {
			g.Interface(1, 0)
			g.Interface(101, 0, ct.Option{Code: ct.Resolution, Value: []byte{3}})
			g.Enhanced(1, 7500, ct.Packet{Data: frame(8)})
			g.Enhanced(0, 8e6, ct.Packet{Data: frame(8)})
		}), ng(big, func(g *ct.NG) {
			g.Interface(113, 0)
			g.Enhanced(0, 9e6, ct.Packet{Data: frame(3)})
		})), []Packet{
			{Number: 1, Offset: 80, TimeNS: 7_500_000_000, Data: frame(8), Length: 8, Link: 101},
			{Number: 2, Offset: 120, TimeNS: 8e9, Data: frame(8), Length: 8, Link: 1},
			{Number: 3, Offset: 208, TimeNS: 9e9, Data: frame(3), Length: 3, Link: 113},
		}},
		"pcapng, a simple packet is cut at the snap length and has the time before": {ng(little, func(g *ct.NG) {
			g.Interface(1, 10)
			g.Enhanced(0, 7e6, ct.Packet{Data: frame(4)})
			g.Simple(ct.Packet{Data: frame(10), Length: 90})
		}), []Packet{
			{Number: 1, Offset: 48, TimeNS: 7e9, Data: frame(4), Length: 4, Link: 1},
			{Number: 2, Offset: 84, TimeNS: 7e9, Data: frame(10), Length: 90, Link: 1},
		}},
		"pcapng, a packet tells its check sequence better than the interface": {ng(little, func(g *ct.NG) {
			g.Interface(1, 0, ct.Option{Code: ct.FCS, Value: []byte{16}})
			g.Enhanced(0, 0, ct.Packet{Data: frame(20)}, ct.Option{Code: ct.Flags, Value: little.AppendUint32(nil, 4<<5)})
			g.Enhanced(0, 0, ct.Packet{Data: frame(18), Length: 20})
		}), []Packet{
			{Number: 1, Offset: 60, Data: frame(16), Length: 16, Link: 1},
			{Number: 2, Offset: 124, Data: frame(18), Length: 18, Link: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := all(test.file)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, test.want, samePacket) {
				t.Errorf("packets\n%+v, want\n%+v", got, test.want)
			}
		})
	}
}

func samePacket(a, b Packet) bool {
	return a.Number == b.Number && a.Offset == b.Offset && a.TimeNS == b.TimeNS && a.Length == b.Length && a.Link == b.Link && bytes.Equal(a.Data, b.Data)
}

func TestBrokenCapturesSayWhere(t *testing.T) {
	good := ct.Packet{TimeNS: second, Data: frame(60)}
	pcap := ct.PCAP(little, ct.Micro, 1, good, good)
	block := func(build func(*ct.NG)) []byte {
		return ng(little, func(g *ct.NG) {
			g.Interface(1, 0)
			g.Enhanced(0, 1, good)
			build(g)
		})
	}
	lie := func(b []byte, at int, v uint32) []byte {
		b = bytes.Clone(b)
		little.PutUint32(b[at:], v)
		return b
	}
	whole := block(func(g *ct.NG) { g.Enhanced(0, 1, good) })
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"an empty file":                         {nil, "the file is empty"},
		"three bytes":                           {[]byte{1, 2, 3}, "neither pcap nor pcapng: the file has 3 bytes"},
		"something else":                        {[]byte("GET / HTTP/1.1\r\n"), "neither pcap nor pcapng: the file begins with 47 45 54 20"},
		"a gzip file of something else":         {ct.Gzip([]byte("GET / HTTP/1.1\r\n")), "the file begins with 47 45 54 20"},
		"a pcap header that ends early":         {pcap[:20], "the file ends inside the file header: 20 of 24 bytes"},
		"a pcap version from the past":          {lie(pcap, 4, 0x00010002), "pcap version 2.1 is not known"},
		"a pcap that ends inside a header":      {pcap[:110], "packet 2 (byte 100): the file ends inside a packet's header: 10 of 16 bytes"},
		"a pcap that ends inside a packet":      {pcap[:120], "packet 2 (byte 100): the file ends inside a packet: 4 of 60 bytes"},
		"a pcap that ends after a header":       {pcap[:116], "packet 2 (byte 100): the file ends inside a packet: 0 of 60 bytes"},
		"a pcap with a packet of 4 GB":          {lie(pcap, 108, 1<<32-1), "packet 2 (byte 100): 4294967295 bytes are said to be captured, above the limit of 262144"},
		"a gzip file that ends early":           {ct.Gzip(pcap)[:40], "unexpected EOF"},
		"a gzip file with a wrong checksum":     {lie(ct.Gzip(pcap), len(ct.Gzip(pcap))-8, 1), "gzip: invalid checksum"},
		"a pcapng that ends inside a section":   {whole[:20], "packet 1 (byte 0): the file ends inside a section header: 20 of 28 bytes"},
		"a section without a byte order":        {lie(whole, 8, 0), "packet 1 (byte 0): section header has the byte order mark 00 00 00 00"},
		"a section of another version":          {lie(whole, 12, 9), "packet 1 (byte 0): pcapng version 9.0 is not known"},
		"a section with a length that lies":     {lie(whole, 4, 16), "packet 1 (byte 0): section header has the impossible length 16"},
		"a block that ends early":               {whole[:200], "packet 2 (byte 140): the file ends inside a block: 60 of 92 bytes"},
		"a block whose lengths differ":          {lie(whole, 228, 96), "packet 2 (byte 140): block of type 0x6 has 92 bytes by its beginning and 96 by its end"},
		"a block of no length":                  {lie(whole, 144, 0), "packet 2 (byte 140): block of type 0x6 has the impossible length 0"},
		"a block of an odd length":              {lie(whole, 144, 93), "packet 2 (byte 140): block of type 0x6 has the impossible length 93"},
		"a packet block of 4 GB":                {lie(whole, 144, 1<<32-4), "packet 2 (byte 140): block of type 0x6 has 4294967292 bytes, above the limit of 393216"},
		"more captured than the block holds":    {lie(whole, 160, 64), "packet 2 (byte 140): block of type 0x6: 64 bytes are said to be captured, but the block has room for 60"},
		"an unknown block that ends early":      {block(func(g *ct.NG) { g.Block(0xbad, frame(100)) })[:200], "packet 2 (byte 140): the file ends inside a block: 60 of 112"},
		"a packet of an interface not there":    {block(func(g *ct.NG) { g.Enhanced(7, 1, good) }), "packet 2 (byte 140): block of type 0x6: interface 7 is not described, there are 1 so far"},
		"a packet block without room":           {block(func(g *ct.NG) { g.Block(6, frame(8)) }), "packet 2 (byte 140): block of type 0x6: packet block of 8 bytes"},
		"a simple packet without an interface":  {ng(little, func(g *ct.NG) { g.Simple(good) }), "packet 1 (byte 28): block of type 0x3: a packet, but no interface is described"},
		"a simple packet that is not there":     {block(func(g *ct.NG) { g.Block(3, little.AppendUint32(nil, 99)) }), "packet 2 (byte 140): block of type 0x3: 99 bytes are said to be captured, but the block has room for 0"},
		"an option that is not there":           {block(func(g *ct.NG) { g.Block(1, frame(8), []byte{9, 0, 200, 0}) }), "packet 2 (byte 140): block of type 0x1: option 9 of 200 bytes, of which 0 are there"},
		"an interface description of 4 bytes":   {block(func(g *ct.NG) { g.Block(1, frame(4)) }), "interface description of 4 bytes"},
		"a resolution of 10^-20 s":              {block(func(g *ct.NG) { g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{20}}) }), "time resolution 0x14 is too fine"},
		"a resolution of 2^-64 s":               {block(func(g *ct.NG) { g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{0x80 | 64}}) }), "time resolution 0xc0 is too fine"},
		"a time before 1970":                    {timed(0, ^uint64(4)), "is out of range"},
		"a time after the year 2262":            {timed(1<<60, 0), "time stamp 1152921504606846976 is out of range: 1152921504606846976 seconds since 1970"},
		"a time beyond 63 bits":                 {timed(1<<63, 0), "time stamp 9223372036854775808 is out of range"},
		"a time that overflows with its offset": {timed(1<<62, 1<<62), "is out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := all(test.file)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// timed is a capture with one packet at seconds plus offset.
func timed(seconds, offset uint64) []byte {
	return ng(little, func(g *ct.NG) {
		g.Interface(1, 0, ct.Option{Code: ct.Resolution, Value: []byte{0}}, ct.Option{Code: ct.Offset, Value: little.AppendUint64(nil, offset)})
		g.Enhanced(0, seconds, ct.Packet{Data: frame(4)})
	})
}

func TestThePacketsBeforeTheBreakAreThere(t *testing.T) {
	file := ct.PCAP(little, ct.Micro, 1, ct.Packet{Data: frame(60)}, ct.Packet{Data: frame(60)})
	got, err := all(file[:120])
	var where *Error
	if len(got) != 1 || !errors.As(err, &where) || where.Packet != 2 || where.Offset != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d packets and error %v, want 1 and one about packet 2 at byte 100", len(got), err)
	}
}

// endless is a pcapng stream that names secrets, interfaces' statistics and packets for ever.
type endless struct {
	head, loop []byte
	at         int
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	n := copy(p, e.loop[e.at:])
	e.at = (e.at + n) % len(e.loop)
	return n, nil
}

func TestMemoryIsConstant(t *testing.T) {
	g := &ct.NG{Order: little}
	g.Block(10, frame(1<<16)) // secrets
	g.Block(4, frame(1<<16))  // names
	g.Enhanced(0, 1, ct.Packet{Data: frame(MaxPacket)}, ct.Option{Code: 1, Value: frame(1 << 15)})
	r, err := NewReader(&endless{head: ng(little, func(g *ct.NG) { g.Interface(1, 0) }), loop: g.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const packets = 2000
	for range packets { // 800 MB
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated for %d packets, want next to none", grown, packets)
	}
}

func FuzzReader(f *testing.F) {
	p := ct.Packet{TimeNS: second, Data: frame(20), Length: 60}
	f.Add(ct.PCAP(little, ct.Micro, 1, p, p))
	f.Add(ct.PCAP(big, ct.Nano, 1|1<<26|2<<28, p))
	f.Add(ct.PCAP(little, ct.Modified, 276, p))
	f.Add(ct.Gzip(ct.PCAP(little, ct.Nano, 1, p)))
	f.Add(ng(big, func(g *ct.NG) {
		g.Interface(1, 10, ct.Option{Code: ct.Resolution, Value: []byte{0x94}}, ct.Option{Code: ct.FCS, Value: []byte{32}})
		g.Enhanced(0, 1<<40, p, ct.Option{Code: ct.Flags, Value: []byte{0, 0, 0, 0x80}})
		g.Simple(p)
		g.Obsolete(0, 1, p)
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		packets, err := all(data)
		var where *Error
		if errors.As(err, &where) && where.Packet != int64(len(packets))+1 {
			t.Errorf("error about packet %d after %d packets", where.Packet, len(packets))
		}
		last := int64(-1)
		for i, p := range packets {
			if p.Number != int64(i)+1 || p.Offset <= last || p.TimeNS < 0 || len(p.Data) > MaxPacket || uint64(len(p.Data)) > uint64(p.Length) {
				t.Fatalf("packet %+v after one at byte %d", p, last)
			}
			last = p.Offset
		}
	})
}
