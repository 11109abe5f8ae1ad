package l7

import "encoding/binary"

// cursor reads big-endian fields from the front of a byte slice. After a read
// beyond its end it is short, and every further read yields zero.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.b, c.short = nil, true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() uint8 {
	if v := c.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if v := c.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u24() int {
	if v := c.take(3); v != nil {
		return int(v[0])<<16 | int(v[1])<<8 | int(v[2])
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// varint reads an integer of QUIC (RFC 9000, section 16).
func (c *cursor) varint() uint64 {
	if len(c.b) == 0 {
		c.short = true
		return 0
	}
	v := c.take(1 << (c.b[0] >> 6))
	if v == nil {
		return 0
	}
	n := uint64(v[0] & 0x3f)
	for _, b := range v[1:] {
		n = n<<8 | uint64(b)
	}
	return n
}

// upTo takes n bytes, or what there is and says that it is not all.
func (c *cursor) upTo(n int) (v []byte, whole bool) {
	whole = n <= len(c.b)
	return c.take(min(n, len(c.b))), whole
}
