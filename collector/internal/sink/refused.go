package sink

import (
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// Refusal says why a batch is not stored. Its texts are printable.
type Refusal struct {
	Stored    time.Time // by NATS
	Subject   string    // on which the batch came in
	Reason    string    // one word
	Detail    string
	MessageID string // which the sender gave it
	Bytes     int    // of the message
	Sequence  uint64 // in the stream of batches
}

// refused holds the rows of table refused_batches.
type refused struct {
	time          proto.ColInt64
	agent, reason dictionary
	subject       proto.ColStr
	detail        proto.ColStr
	messageID     proto.ColStr
	size          proto.ColUInt32
	sequence      proto.ColUInt64
	input         proto.Input
}

func (r *refused) init() {
	r.agent.init()
	r.reason.init()
	r.input = proto.Input{
		{Name: "time", Data: proto.Alias(&r.time, typeMillis)},
		{Name: "agent", Data: &r.agent},
		{Name: "reason", Data: &r.reason},
		{Name: "subject", Data: &r.subject},
		{Name: "detail", Data: &r.detail},
		{Name: "message_id", Data: &r.messageID},
		{Name: "bytes", Data: &r.size},
		{Name: "sequence", Data: &r.sequence},
	}
}

func (r *refused) rows() int { return len(r.time) }

func (r *refused) reset() { r.input.Reset() }

func (r *refused) bytes() int {
	const row = 76
	return row*r.rows() + len(r.subject.Buf) + len(r.detail.Buf) + len(r.messageID.Buf) + r.agent.bytes() + r.reason.bytes()
}

// Refuse adds a row about a batch that is not stored.
func (b *Block) Refuse(in *Refusal) {
	r := &b.refused
	agent, err := ebbwatch.AgentOfSubject(in.Subject)
	if err != nil {
		agent = ""
	}
	r.time = append(r.time, in.Stored.UnixMilli())
	r.agent.repeat(r.agent.key(agent), 1)
	r.reason.repeat(r.reason.key(in.Reason), 1)
	r.subject.Append(in.Subject)
	r.detail.Append(in.Detail)
	r.messageID.Append(in.MessageID)
	r.size = append(r.size, uint32(in.Bytes))
	r.sequence = append(r.sequence, in.Sequence)
}
