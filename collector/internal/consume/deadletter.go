package consume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// Headers of a dead letter beside those of package ebbwatch.
const (
	headerSequence  = "Ebbwatch-Sequence"   // of the message in the stream of batches
	headerStored    = "Ebbwatch-Stored"     // when it was stored there, RFC 3339
	headerMessageID = "Ebbwatch-Message-Id" // the agent's own Nats-Msg-Id
	headerTruncated = "Ebbwatch-Truncated"  // the full length, if the bytes did not fit with the headers
)

// maxReason bounds the reason in a header: it may quote hostile bytes.
const maxReason = 512

// Letter is a batch that was refused.
type Letter struct {
	ID        uint64    // sequence in the dead-letter stream, or 0 if it is to be published
	Time      time.Time // when it was refused
	Subject   string    // on which the batch came in
	Reason    string    // a word, a colon, and what exactly is wrong
	Data      []byte    // as received; empty in a list
	Size      int       // bytes of Data
	Truncated int       // the bytes received, if Data is only their beginning, else 0
	MessageID string    // of the agent, "" if none
	Origin    uint64    // sequence in the stream of batches
	Stored    time.Time // when the stream of batches got it

	subject string // in the dead-letter stream
}

// ReasonWord returns the first word of the reason, by which letters are counted.
func (l *Letter) ReasonWord() string {
	word, _, _ := strings.Cut(l.Reason, ":")
	return word
}

// Agent returns the agent that the letter's subject claims, "invalid" if it names none.
func (l *Letter) Agent() string { return agentOf(l.subject) }

// letterSubject returns the subject of the letter about a batch. It says who
// claims to have sent it, and what came: the same bytes on the same subject are
// one letter, however often and on whatever way they come.
func letterSubject(subject string, data []byte) string {
	agent, err := ebbwatch.AgentOfSubject(subject)
	if err != nil {
		agent = "invalid"
	}
	sum := sha256.New()
	sum.Write([]byte(subject))
	sum.Write([]byte{0})
	sum.Write(data)
	return ebbwatch.DeadLetterSubjectPrefix + agent + "." + hex.EncodeToString(sum.Sum(nil)[:16])
}

// agentOf returns the agent in a letter's subject.
func agentOf(subject string) string {
	agent, _, _ := strings.Cut(strings.TrimPrefix(subject, ebbwatch.DeadLetterSubjectPrefix), ".")
	return agent
}

// Refuse publishes a letter and returns when the stream has it; if it has it
// already, nothing changes. A full stream makes room (see makeRoom) and reports
// how much it let go of, also with an error.
func (s *Streams) Refuse(ctx context.Context, js jetstream.JetStream, l *Letter) (Dropped, error) {
	msg := nats.NewMsg(letterSubject(l.Subject, l.Data))
	msg.Header.Set(ebbwatch.DeadLetterReasonHeader, Printable(l.Reason))
	msg.Header.Set(ebbwatch.DeadLetterSubjectHeader, Printable(l.Subject))
	msg.Header.Set(headerSequence, strconv.FormatUint(l.Origin, 10))
	msg.Header.Set(headerStored, l.Stored.UTC().Format(time.RFC3339Nano))
	if l.MessageID != "" {
		msg.Header.Set(headerMessageID, Printable(l.MessageID))
	}
	msg.Data = l.Data
	const headers = 4 << 10 // room for the above
	if limit := int(js.Conn().MaxPayload()) - headers; limit > 0 && len(msg.Data) > limit {
		msg.Header.Set(headerTruncated, strconv.Itoa(len(msg.Data)))
		msg.Data = msg.Data[:limit]
	}
	err := publishLetter(ctx, js, msg)
	if !isCode(err, codeStoreFailed) {
		return Dropped{}, err
	}
	dropped, roomErr := s.makeRoom(ctx, int64(len(msg.Data)+headers))
	if roomErr != nil {
		return dropped, fmt.Errorf("%w; make room: %w", err, roomErr)
	}
	return dropped, publishLetter(ctx, js, msg)
}

// codeStoreFailed is what JetStream answers when a stream is full.
const codeStoreFailed = jetstream.ErrorCode(10077)

func isCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// publishLetter publishes a letter unless the stream has one under its subject.
func publishLetter(ctx context.Context, js jetstream.JetStream, msg *nats.Msg) error {
	_, err := js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithExpectStream(ebbwatch.DeadLetterStream))
	if err != nil && !isCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return nil
}

// Settle removes the letter about a batch that is stored now, if there is one.
func (s *Streams) Settle(ctx context.Context, subject string, data []byte) error {
	if err := s.DeadLetter.Purge(ctx, jetstream.WithPurgeSubject(letterSubject(subject, data))); err != nil {
		return fmt.Errorf("remove dead letter: %w", err)
	}
	return nil
}

// Printable returns the beginning of s as one line of printable text: what came
// from the network may hold anything.
func Printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !strconv.IsPrint(r) { // an error is one byte here: the result is no longer than s
			return '?'
		}
		return r
	}, s[:min(len(s), maxReason)])
	return strings.TrimSpace(clean)
}

// letterOf returns the letter in a message of the stream. Absent or foreign
// headers leave zero values: listing must not fail on them.
func letterOf(id uint64, at time.Time, subject string, header nats.Header, data []byte) *Letter {
	l := &Letter{
		ID: id, Time: at, Data: data, Size: len(data), subject: subject,
		Subject:   Printable(header.Get(ebbwatch.DeadLetterSubjectHeader)),
		Reason:    Printable(header.Get(ebbwatch.DeadLetterReasonHeader)),
		MessageID: Printable(header.Get(headerMessageID)),
	}
	l.Truncated, _ = strconv.Atoi(header.Get(headerTruncated))
	l.Origin, _ = strconv.ParseUint(header.Get(headerSequence), 10, 64)
	l.Stored, _ = time.Parse(time.RFC3339Nano, header.Get(headerStored))
	if size, err := strconv.Atoi(header.Get(nats.MsgSize)); err == nil { // of a list
		l.Size = size
	}
	return l
}
