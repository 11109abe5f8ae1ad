package annotate

import (
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/l7"
)

const (
	// maxTalks bounds the conversations whose beginnings wait for their record.
	maxTalks = 1 << 16
	// maxHints is how many beginnings of one side are kept: questions of DNS over one flow.
	maxHints = 4
	// patience is how many drains a beginning waits for the answer to it.
	patience = 2
)

// talk is what the two sides of a conversation were heard to say.
type talk struct {
	side   [2]said
	drains int  // since something new was heard
	told   bool // in a record, and nothing new since
}

// said is what one side says.
type said struct {
	hints []l7.Hint
	// beginning is kept while the message goes on in packets to come.
	beginning *beginning
}

type beginning struct {
	l7.Beginning
	seq  uint32 // sequence number of the first byte
	next uint32 // that which follows on it
}

// hear adds what a packet said, and reports whether it adds anything. It calls count
// once for each message: when nothing of it is waited for any more.
func (s *said) hear(p *l7.Parser, h *flowbpf.Hint, count func(*l7.Hint)) bool {
	if h.Continued {
		return s.goesOn(p, h, count)
	}
	if b := s.beginning; b != nil && h.Key.Proto == protoTCP && h.Seq == b.seq { // at another interface, or sent again
		if len(h.Data) <= len(b.Payload) {
			return false
		}
		s.hints, s.beginning = s.hints[:len(s.hints)-1], nil
	}
	s.give(count)
	if len(s.hints) == maxHints {
		return false
	}
	src, dst := h.Key.APort, h.Key.BPort
	if h.Side != 0 {
		src, dst = dst, src
	}
	b := l7.Beginning{
		Payload: h.Data, Cut: len(h.Data) < int(h.PayloadLen), Proto: h.Key.Proto, SrcPort: src, DstPort: dst, TimeNS: h.TimeNS,
	}
	hint := p.Parse(&b)
	s.hints = append(s.hints, hint)
	if hint.Flaw == l7.FlawTruncated {
		b.Payload = append([]byte(nil), h.Data...) // h's is gone after the call
		s.beginning = &beginning{b, h.Seq, h.Seq + uint32(len(h.Data))}
		return true
	}
	count(&hint)
	return true
}

// give counts a message that does not go on, as far as it came.
func (s *said) give(count func(*l7.Hint)) {
	if s.beginning != nil {
		s.beginning = nil
		count(&s.hints[len(s.hints)-1])
	}
}

// goesOn puts a continuation behind the beginning and reads both anew.
func (s *said) goesOn(p *l7.Parser, h *flowbpf.Hint, count func(*l7.Hint)) bool {
	b := s.beginning
	if b == nil || len(s.hints) == 0 || h.Key.Proto == protoTCP && h.Seq != b.next {
		return false // its beginning was lost, or packets came out of order
	}
	b.Payload = append(b.Payload, h.Data...)
	b.next += uint32(len(h.Data))
	last := &s.hints[len(s.hints)-1]
	*last = p.Parse(&b.Beginning)
	if last.Flaw != l7.FlawTruncated || len(b.Payload) >= l7.MaxPayload {
		s.give(count)
	}
	return true
}

// protoTCP is TCP's IANA protocol number.
const protoTCP = 6
