package flowbpf

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// oracle holds both parsers in the kernel against the reference. It must be made
// to forget before the kernel's memory of fragments is full: the reference's never is.
type oracle struct {
	parser *parser
	ref    *reference
	met    map[string]int // how often a kind of result came up
}

func newOracle(t testing.TB) *oracle {
	return &oracle{parser: newParser(t), ref: newReference(), met: make(map[string]int)}
}

func (o *oracle) forget(t testing.TB) {
	t.Helper()
	clear(o.ref.known)
	f := o.parser.objs.Fragments
	for key := new(objects.ParserEbbFragmentKey); f.NextKey(nil, key) == nil; {
		must(t, f.Delete(key))
	}
}

// check reports false if the kernel would not run the frame.
func (o *oracle) check(t *testing.T, frame []byte, ip bool) bool {
	t.Helper()
	if len(frame) < 14 || len(frame) > 3000 {
		return false
	}
	got, ran := o.parser.general(t, frame, ip)
	if !ran {
		return false
	}
	want := o.ref.parse(frame, ip)
	if got != want {
		t.Errorf("of %x\nthe general parser makes\n%+v, want\n%+v", frame, got, want)
	}
	o.met[fmt.Sprintf("reason %d of family %d", got.reason, got.family)]++
	o.met[fmt.Sprintf("tunnel %d", got.tunnel)]++
	if ip {
		return true
	}
	if quick, ok := o.parser.fast(t, frame); ok {
		if quick != want {
			t.Errorf("of %x\nthe fast path makes\n%+v, want\n%+v", frame, quick, want)
		}
		o.met[fmt.Sprintf("fast path, tunnel %d", got.tunnel)]++
	}
	return true
}

// Frames with all that the parsers know, whole, damaged and cut off.
func TestParsersAgreeWithTheReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g, o := newGenerator(seed), newOracle(t)
	ran := 0
	for i := range 200_000 {
		if i%2000 == 0 {
			o.forget(t)
		}
		frame, ip := g.frame()
		if i%2 == 1 {
			frame = damage(g.Rand, frame)
		}
		if o.check(t, frame, ip) {
			ran++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d frames: %v", ran, o.met)
	if ran < 180_000 {
		t.Errorf("the kernel ran only %d frames", ran)
	}
	for _, what := range []string{
		"reason 0 of family 4", "reason 0 of family 6",
		"reason 1 of family 0", "reason 2 of family 0", "reason 3 of family 0", "reason 4 of family 0",
		"reason 1 of family 4", "reason 2 of family 4", "reason 3 of family 4", "reason 4 of family 4",
		"tunnel 0", "tunnel 1", "tunnel 2", "tunnel 3", "tunnel 4",
		"fast path, tunnel 0", "fast path, tunnel 1", "fast path, tunnel 2",
	} {
		if o.met[what] < 20 {
			t.Errorf("%q came up %d times: the frames test too little", what, o.met[what])
		}
	}
}

func TestEveryCaseAgreesWithTheReference(t *testing.T) {
	o := newOracle(t)
	for _, c := range fuzzSeeds() {
		t.Run(c.name, func(t *testing.T) { o.check(t, c.frame, c.ip) })
	}
}

// FuzzReference pushes any bytes through both parsers and the reference.
func FuzzReference(f *testing.F) {
	for _, s := range fuzzSeeds() {
		f.Add(s.frame, s.ip)
	}
	g := newGenerator(1)
	for range 200 {
		frame, ip := g.frame()
		f.Add(frame, ip)
	}
	o := newOracle(f)
	f.Fuzz(func(t *testing.T, frame []byte, ip bool) {
		o.forget(t) // what another input left
		o.check(t, frame, ip)
	})
}
