package ebbwatch

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A column on the wire is patched fixed-width packing (Zukowski et al.,
// "Super-Scalar RAM-CPU Cache Compression", ICDE 2006): one byte with a width of
// 0 to maxWidth bits, the low bits of all values one after the other in
// little-endian order, then, for each value that is wider, two varints: how many
// values lie between it and the wide one before, and the rest of its bits. So
// zeros among few others take no room, and most values are read without a branch.

// maxWidth is such that a value that begins within a byte ends within 8.
const maxWidth = 56

// Values are unpacked atOnce at a time, which are width bytes. unpackAhead is how
// many bytes behind a column are read, and ignored, so that its end needs no care.
const (
	atOnce      = 8
	unpackAhead = maxWidth + 8
)

type integer interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int64 // of which none is negative
}

// appendColumn appends a field with the packed values of col, unless all are 0.
func appendColumn[T integer](dst []byte, field protowire.Number, col []T) []byte {
	var used T
	for _, v := range col {
		used |= v
	}
	if used == 0 {
		return dst
	}
	return appendMessage(dst, field, func(dst []byte) []byte { return appendPacked(dst, col) })
}

// appendPacked appends the values of col.
func appendPacked[T integer](dst []byte, col []T) []byte {
	width := bestWidth(col)
	dst = append(dst, byte(width))
	dst = slices.Grow(dst, (len(col)*width+7)/8)
	var pending uint64 // bits that do not fill a byte yet
	n, mask, wide := 0, uint64(1)<<width-1, false
	for _, v := range col {
		x := uint64(v)
		wide = wide || x > mask
		pending |= x & mask << n
		for n += width; n >= 8; n -= 8 {
			dst = append(dst, byte(pending))
			pending >>= 8
		}
	}
	if n > 0 {
		dst = append(dst, byte(pending))
	}
	if !wide {
		return dst
	}
	next := 0
	for i, v := range col {
		if x := uint64(v); x > mask {
			dst = protowire.AppendVarint(dst, uint64(i-next))
			dst = protowire.AppendVarint(dst, x>>width)
			next = i + 1
		}
	}
	return dst
}

// patchCost is how many bytes a column may be longer to save a patch, which
// costs the reader more than bytes do.
const patchCost = 2

// bestWidth returns the width that makes col shortest, or nearly so.
func bestWidth[T integer](col []T) int {
	var lengths [65]int // how many values have so many bits
	for _, v := range col {
		lengths[bits.Len64(uint64(v))]++
	}
	best, least := 0, int(^uint(0)>>1)
	for width := 0; width <= maxWidth; width++ {
		size := (len(col)*width + 7) / 8
		for length := width + 1; length < len(lengths); length++ {
			size += lengths[length] * (1 + patchCost + (length-width+6)/7)
		}
		if size < least {
			best, least = width, size
		}
	}
	return best
}

// unpack replaces col with the n values that packed must hold, exactly; nil
// holds zeros. Values that do not fit T are an error.
//
// Without unpackAhead bytes of capacity behind it, packed is copied.
func unpack[T integer](col []T, packed []byte, n int) ([]T, error) {
	col = col[:0]
	if packed == nil {
		return appendSame(col, 0, n), nil
	}
	width, low, rest, err := split[T](packed, n)
	if err != nil {
		return col, err
	}
	if width == 0 {
		col = appendSame(col, 0, n)
	} else {
		size := len(low)
		if cap(low) < size+unpackAhead {
			low = append(make([]byte, 0, size+unpackAhead), low...)
		}
		whole := (n + atOnce - 1) / atOnce * atOnce
		col = slices.Grow(col, whole)[:whole]
		unpackLow(col, low[:size+unpackAhead], uint(width))
		col = col[:n]
	}
	return col, patch(col, rest, width, n)
}

// check reports what unpack would.
func check[T integer](packed []byte, n int) error {
	if packed == nil {
		return nil
	}
	width, _, rest, err := split[T](packed, n)
	if err != nil {
		return err
	}
	return patch[T](nil, rest, width, n)
}

// split returns the width of the n values of packed, their low bits and the rest.
func split[T integer](packed []byte, n int) (width int, low, rest []byte, err error) {
	limit := min(maxWidth, bits.Len64(largest[T]()))
	if len(packed) == 0 || int(packed[0]) > limit {
		return 0, nil, nil, fmt.Errorf("%w: no width of 0 to %d bits", ErrInvalid, limit)
	}
	width = int(packed[0])
	size := (n*width + 7) / 8
	if len(packed)-1 < size { // before memory is spent on what cannot be there
		return 0, nil, nil, fmt.Errorf("%w: %d bytes for %d entries of %d bits", ErrInvalid, len(packed)-1, n, width)
	}
	return width, packed[1 : 1+size], packed[1+size:], nil
}

// unpackLow fills out, a multiple of atOnce, with values of 1 to maxWidth bits.
// low goes on for unpackAhead bytes. As many values come from one load as surely
// stand in it. Shifts are masked because the compiler then leaves out the case of 64
// and more.
func unpackLow[T integer](out []T, low []byte, width uint) {
	mask := uint64(1)<<(width&63) - 1
	switch {
	case width < 8: // 8 values are at most 56 bits
		for ; len(out) >= atOnce; out, low = out[atOnce:], low[width:] {
			o, x := (*[atOnce]T)(out), load(low, 0)
			o[0], o[1] = T(x&mask), T(x>>(width&63)&mask)
			o[2], o[3] = T(x>>(2*width&63)&mask), T(x>>(3*width&63)&mask)
			o[4], o[5] = T(x>>(4*width&63)&mask), T(x>>(5*width&63)&mask)
			o[6], o[7] = T(x>>(6*width&63)&mask), T(x>>(7*width&63)&mask)
		}
	case width == 8:
		for ; len(out) >= atOnce; out, low = out[atOnce:], low[8:] {
			o, x := (*[atOnce]T)(out), (*[8]byte)(low)
			o[0], o[1], o[2], o[3] = T(x[0]), T(x[1]), T(x[2]), T(x[3])
			o[4], o[5], o[6], o[7] = T(x[4]), T(x[5]), T(x[6]), T(x[7])
		}
	case width == 16:
		for ; len(out) >= atOnce; out, low = out[atOnce:], low[16:] {
			o, x, y := (*[atOnce]T)(out), load(low, 0), load(low, 64)
			o[0], o[1], o[2], o[3] = T(x&mask), T(x>>16&mask), T(x>>32&mask), T(x>>48)
			o[4], o[5], o[6], o[7] = T(y&mask), T(y>>16&mask), T(y>>32&mask), T(y>>48)
		}
	case width < 16: // 4 values are at most 60 bits and begin within a byte or in its middle
		for half := 4 * width; len(out) >= atOnce; out, low = out[atOnce:], low[width:] {
			o, x, y := (*[atOnce]T)(out), load(low, 0), load(low, half)
			o[0], o[4] = T(x&mask), T(y&mask)
			o[1], o[5] = T(x>>(width&63)&mask), T(y>>(width&63)&mask)
			o[2], o[6] = T(x>>(2*width&63)&mask), T(y>>(2*width&63)&mask)
			o[3], o[7] = T(x>>(3*width&63)&mask), T(y>>(3*width&63)&mask)
		}
	case width <= 28: // 2 values and the 7 bits before them are at most 63 bits
		for at2, at4, at6 := 2*width, 4*width, 6*width; len(out) >= atOnce; out, low = out[atOnce:], low[width:] {
			o, x, y, z, u := (*[atOnce]T)(out), load(low, 0), load(low, at2), load(low, at4), load(low, at6)
			o[0], o[1] = T(x&mask), T(x>>(width&63)&mask)
			o[2], o[3] = T(y&mask), T(y>>(width&63)&mask)
			o[4], o[5] = T(z&mask), T(z>>(width&63)&mask)
			o[6], o[7] = T(u&mask), T(u>>(width&63)&mask)
		}
	default:
		for ; len(out) >= atOnce; out, low = out[atOnce:], low[width:] {
			o := (*[atOnce]T)(out)
			for i := range o {
				o[i] = T(load(low, uint(i)*width) & mask)
			}
		}
	}
}

// load returns what follows a bit, at least 57 bits of it.
func load(low []byte, bit uint) uint64 { return binary.LittleEndian.Uint64(low[bit/8:]) >> (bit % 8) }

// patch adds the rest of the wide ones of n values, or only looks at it if col is nil.
func patch[T integer](col []T, rest []byte, width, n int) error {
	most := largest[T]() >> width
	for next := 0; len(rest) > 0; next++ {
		gap, used := shortVarint(rest)
		if used < 0 {
			return fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(used))
		}
		rest = rest[used:]
		high, used := shortVarint(rest)
		if used < 0 {
			return fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(used))
		}
		rest = rest[used:]
		if gap >= uint64(n-next) {
			return fmt.Errorf("%w: more than %d entries", ErrInvalid, n)
		}
		if high > most {
			return fmt.Errorf("%w: a value is above %d", ErrInvalid, largest[T]())
		}
		next += int(gap)
		if col != nil {
			col[next] |= T(high << width)
		}
	}
	return nil
}

// shortVarint is protowire.ConsumeVarint, inlined for one byte.
func shortVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// largest returns the largest value of T.
func largest[T integer]() uint64 {
	v := uint64(^T(0))
	if ^T(0) < 0 {
		v >>= 1
	}
	return v
}

// highest returns the largest value, 0 of none.
func highest[T integer](col []T) T {
	var a, b, c, d T // four, so that none waits for the one before
	for ; len(col) >= 4; col = col[4:] {
		a, b, c, d = max(a, col[0]), max(b, col[1]), max(c, col[2]), max(d, col[3])
	}
	for _, v := range col {
		a = max(a, v)
	}
	return max(a, b, c, d)
}

func appendSame[T any](col []T, v T, n int) []T {
	at := len(col)
	col = slices.Grow(col, n)[:at+n]
	for i := range col[at:] {
		col[at+i] = v
	}
	return col
}
