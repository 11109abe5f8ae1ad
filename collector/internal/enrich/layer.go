package enrich

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// address is an address as a number. IPv4 has a space of its own, from 0.
type address struct{ hi, lo uint64 }

func addressOf(a netip.Addr) address {
	if a.Is4() {
		b := a.As4()
		return address{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a address) compare(b address) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

// next returns the address after a, the zero address if there is none.
func (a address) next() address {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

// point says that value holds from an address up to the next point. 0 is nothing.
type point struct {
	from  address
	value uint32
}

// atlas is what a source says of all addresses, as points in their order. The
// first of both is of the first address.
type atlas struct{ v4, v6 []point }

// span is what a source says of a prefix.
type span struct {
	first, last address
	value       uint32
}

// spans are those of a source.
type spans struct{ v4, v6 []span }

// add adds a prefix.
func (s *spans) add(p netip.Prefix, value uint32) {
	list := s.of(p)
	*list = append(*list, spanOf(p, value))
}

// follow adds a prefix that lies after all others: the last one is made longer,
// if it goes on with the same.
func (s *spans) follow(p netip.Prefix, value uint32) {
	list, next := s.of(p), spanOf(p, value)
	if n := len(*list); n > 0 && (*list)[n-1].value == value && (*list)[n-1].last.next() == next.first {
		(*list)[n-1].last = next.last
		return
	}
	*list = append(*list, next)
}

func (s *spans) of(p netip.Prefix) *[]span {
	if p.Addr().Is4() {
		return &s.v4
	}
	return &s.v6
}

func (s *spans) len() int { return len(s.v4) + len(s.v6) }

func spanOf(p netip.Prefix, value uint32) span {
	first, host := addressOf(p.Addr()), p.Addr().BitLen()-p.Bits()
	last := first
	if host >= 64 {
		last.hi |= 1<<(host-64) - 1
		last.lo = ^uint64(0)
	} else {
		last.lo |= 1<<host - 1
	}
	return span{first, last, value}
}

// atlas makes points of spans, of which one may lie in another but not across its
// edge. The value where it does is that of inside.
func (s *spans) atlas(inside func(outer, inner uint32) uint32) atlas {
	return atlas{flatten(s.v4, inside), flatten(s.v6, inside)}
}

func flatten(spans []span, inside func(outer, inner uint32) uint32) []point {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(a.first.compare(b.first), b.last.compare(a.last)) })
	points := []point{{}}
	open := []span{{last: address{^uint64(0), ^uint64(0)}}} // around the place that is reached, the innermost last
	leave := func() {
		from := open[len(open)-1].last.next()
		open = open[:len(open)-1]
		if from != (address{}) {
			points = add(points, point{from, open[len(open)-1].value})
		}
	}
	for _, s := range spans {
		for open[len(open)-1].last.compare(s.first) < 0 {
			leave()
		}
		s.value = inside(open[len(open)-1].value, s.value)
		open = append(open, s)
		points = add(points, point{s.first, s.value})
	}
	for len(open) > 1 {
		leave()
	}
	return points
}

// add appends a point, unless it changes nothing. Of two at one address the last
// counts.
func add(points []point, p point) []point {
	if n := len(points); n > 0 && points[n-1].from == p.from {
		points = points[:n-1]
	}
	if n := len(points); n > 0 && points[n-1].value == p.value {
		return points
	}
	return append(points, p)
}

// overlay joins two sources: the value of an address is join of both of its values.
func (a atlas) overlay(b atlas, join func(a, b uint32) uint32) atlas {
	return atlas{overlay(a.v4, b.v4, join), overlay(a.v6, b.v6, join)}
}

func overlay(a, b []point, join func(a, b uint32) uint32) []point {
	out := make([]point, 0, max(len(a), len(b)))
	var p point
	var x, y uint32
	for len(a) > 0 || len(b) > 0 {
		var order int
		switch {
		case len(b) == 0:
			order = -1
		case len(a) == 0:
			order = 1
		default:
			order = a[0].from.compare(b[0].from)
		}
		if order <= 0 {
			p.from, x, a = a[0].from, a[0].value, a[1:]
		}
		if order >= 0 {
			p.from, y, b = b[0].from, b[0].value, b[1:]
		}
		p.value = join(x, y)
		out = add(out, p)
	}
	return out
}

// numbers gives values numbers, in the order in which they come. The zero value
// has number 0.
type numbers[T comparable] struct {
	values []T
	of     map[T]uint32
}

func newNumbers[T comparable]() *numbers[T] {
	var zero T
	return &numbers[T]{[]T{zero}, map[T]uint32{zero: 0}}
}

func (n *numbers[T]) number(v T) uint32 {
	k, ok := n.of[v]
	if !ok {
		k = uint32(len(n.values))
		n.of[v] = k
		n.values = append(n.values, v)
	}
	return k
}
