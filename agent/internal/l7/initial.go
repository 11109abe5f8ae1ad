package l7

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// sampleSize is how much of the payload protects the header (RFC 9001, section
// 5.4.2).
const sampleSize = 16

// initialKeys are the keys of a client's Initial packets. They come from what
// the packet itself says and a salt that is part of the version: whoever sees
// the packet can open it.
type initialKeys struct {
	payload cipher.AEAD
	iv      []byte
	header  cipher.Block
}

// newInitialKeys derives them by RFC 9001, section 5.2, with the salt and the
// labels of version 1 or of version 2 (RFC 9369, section 3.3).
func newInitialKeys(version uint32, id []byte) (*initialKeys, error) {
	salt, label := "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic "
	if version == quic2 {
		salt, label = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 "
	}
	secret, err := hkdf.Extract(sha256.New, id, []byte(salt))
	if err != nil {
		return nil, fmt.Errorf("extract initial secret: %w", err)
	}
	if secret, err = expandLabel(secret, "client in", sha256.Size); err != nil {
		return nil, err
	}
	key, err := expandLabel(secret, label+"key", 16)
	if err != nil {
		return nil, err
	}
	iv, err := expandLabel(secret, label+"iv", 12)
	if err != nil {
		return nil, err
	}
	hp, err := expandLabel(secret, label+"hp", 16)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make payload cipher: %w", err)
	}
	payload, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make payload cipher: %w", err)
	}
	header, err := aes.NewCipher(hp)
	if err != nil {
		return nil, fmt.Errorf("make header cipher: %w", err)
	}
	return &initialKeys{payload: payload, iv: iv, header: header}, nil
}

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, with no context.
func expandLabel(secret []byte, label string, length int) ([]byte, error) {
	label = "tls13 " + label
	info := string([]byte{byte(length >> 8), byte(length), byte(len(label))}) + label + "\x00"
	key, err := hkdf.Expand(sha256.New, secret, info, length)
	if err != nil {
		return nil, fmt.Errorf("expand %s: %w", label, err)
	}
	return key, nil
}

// openInitial appends the payload of a packet to plain, if it is authentic
// (RFC 9001, section 5.3 and 5.4). The packet itself is left as it is.
func (p *Parser) openInitial(k *initialKeys, packet *initial) bool {
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], packet.protected[4:4+sampleSize])
	first := packet.header[0] ^ mask[0]&0x0f
	length := int(first&3) + 1 // of the packet number
	p.join = append(p.join[:0], packet.header...)
	p.join[0] = first
	number := uint64(0)
	for i, b := range packet.protected[:length] {
		b ^= mask[1+i]
		p.join = append(p.join, b)
		number = number<<8 | uint64(b)
	}
	var nonce [12]byte
	copy(nonce[:], k.iv)
	for i := range 8 {
		nonce[11-i] ^= byte(number >> (8 * i))
	}
	// A packet that is not authentic may leave anything after what is there.
	plain, err := k.payload.Open(p.plain, nonce[:], packet.protected[length:], p.join)
	if err != nil {
		return false
	}
	p.plain = plain
	return true
}
