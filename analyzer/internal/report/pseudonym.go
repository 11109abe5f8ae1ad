package report

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Pseudonyms hides names behind keyed hashes. The same key gives a name the same
// pseudonym in every report. It is safe for concurrent use.
type Pseudonyms struct{ key []byte }

// NewPseudonyms returns pseudonyms under key, which must be secret and at least
// 16 bytes; an empty key is replaced by a random one, which then lasts as long
// as the process.
func NewPseudonyms(key []byte) (*Pseudonyms, error) {
	if len(key) == 0 {
		key = make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("make pseudonym key: %w", err)
		}
	}
	if len(key) < 16 {
		return nil, errors.New("make pseudonyms: the key has less than 16 bytes")
	}
	return &Pseudonyms{key}, nil
}

// scope maps the names of one report to pseudonyms and back. The map never
// leaves the process. It is for one goroutine.
type scope struct {
	key    []byte
	hidden map[string]string // name to pseudonym
	names  map[string]string // pseudonym to name
}

func (p *Pseudonyms) scope() *scope {
	return &scope{p.key, map[string]string{}, map[string]string{}}
}

// hide returns the pseudonym of name, "" for "". It is four hexadecimal digits
// long, and longer by groups of four where two names of a report would share
// it: never a run of digits that a gateway could take for a personal number.
func (s *scope) hide(name string) string {
	if name == "" {
		return ""
	}
	if p, ok := s.hidden[name]; ok {
		return p
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(name))
	digits := hex.EncodeToString(mac.Sum(nil))
	p := "host-" + digits[:4]
	for i := 4; s.names[p] != "" && i+4 <= len(digits); i += 4 {
		p += "-" + digits[i:i+4]
	}
	s.hidden[name], s.names[p] = p, name
	return p
}

// reveal returns the name behind a pseudonym.
func (s *scope) reveal(pseudonym string) string { return s.names[pseudonym] }
