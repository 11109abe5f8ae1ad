package flowbpf

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// question is a DNS query for name from port, in a frame.
func question(port uint16, name string) []byte {
	message := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		message = append(append(message, byte(len(label))), label...)
	}
	message = append(message, 0, 0, 1, 0, 1)
	datagram := make([]byte, 8, 8+len(message))
	binary.BigEndian.PutUint16(datagram, port)
	binary.BigEndian.PutUint16(datagram[2:], 53)
	binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(message)))
	return ether(typeIP4, ip4{proto: 17}.with(append(datagram, message...)))
}

// The ring is read across its seam and in several windows, in order, and what a
// full one refuses is counted.
func TestHintsComeWholeAndInOrder(t *testing.T) {
	for name, c := range map[string]struct{ bytes, each, rounds, least int }{
		"across the seam":    {64 << 10, 70, 11, 4 * 64 << 10},
		"in several windows": {1 << 20, 1500, 2, 2 * 2 * ringWindow},
	} {
		t.Run(name, func(t *testing.T) {
			d := load(t, func(cfg *Config) { cfg.HintBytes = uint32(c.bytes) })
			next := 0
			for range c.rounds {
				for i := range c.each {
					mustRun(t, d, &TestRun{Frame: question(uint16(10_000+next+i), fmt.Sprintf("host%d.example", next+i))})
				}
				err := d.Hints(func(h *Hint) {
					if want := fmt.Sprintf("host%d", next); string(h.Data[13:13+len(want)]) != want {
						t.Fatalf("hint %d says %q, want %s", next, h.Data, want)
					}
					clear(h.Data) // whoever parses it may
					next++
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if want := c.rounds * c.each; next != want {
				t.Errorf("%d hints, want %d", next, want)
			}
			if lost := d.HintsLost(); lost != 0 {
				t.Errorf("%d hints are lost", lost)
			}
			passed := int(*position(&d.hints.consumed))
			if passed < c.least {
				t.Errorf("%d bytes passed, want %d at least", passed, c.least)
			}
		})
	}
}

func TestFullRingIsReadToItsEnd(t *testing.T) {
	d := load(t, func(c *Config) { c.HintBytes = 64 << 10 })
	const asked = 500
	for i := range uint16(asked) {
		mustRun(t, d, &TestRun{Frame: question(10_000+i, "host.example")})
	}
	read := 0
	if err := d.Hints(func(*Hint) { read++ }); err != nil {
		t.Fatal(err)
	}
	if lost := d.HintsLost(); read == 0 || lost == 0 || uint64(read)+lost != asked {
		t.Errorf("%d hints read and %d lost of %d", read, lost, asked)
	}
}
