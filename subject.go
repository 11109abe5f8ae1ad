package ebbwatch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The names that agents, collectors and analyzers meet under in NATS.
const (
	// FlowSubjectPrefix precedes the agent's name in the subject of a batch.
	FlowSubjectPrefix = "ebbwatch.flows.v1."
	// FlowStream is the work-queue stream that holds batches until a collector has stored them.
	FlowStream = "EBBWATCH_FLOWS"
	// FlowConsumer is the durable pull consumer that collectors share. Where the stream
	// is divided into shards, each has one, and this begins their names.
	FlowConsumer = "collector"

	// ResentHeader is the message header, "1", of a batch that an agent published
	// before without learning whether it was stored. Within the stream's duplicate
	// window JetStream tells; after it, only (agent, boot, sequence) does.
	ResentHeader = "Ebbwatch-Resent"

	// DeadLetterSubjectPrefix precedes the (claimed) agent's name in the subject of a refused batch.
	DeadLetterSubjectPrefix = "ebbwatch.dlq.v1."
	// DeadLetterStream holds refused batches, byte for byte, with the reason in a header.
	DeadLetterStream = "EBBWATCH_DLQ"
	// DeadLetterReasonHeader is the message header that holds why a batch was refused.
	DeadLetterReasonHeader = "Ebbwatch-Reason"
	// DeadLetterSubjectHeader is the message header that holds the subject the batch came in on.
	DeadLetterSubjectHeader = "Ebbwatch-Subject"
)

// MaxAgentName is the longest agent name, in bytes.
const MaxAgentName = 64

// ErrAgentName is wrapped by the errors of ValidateAgent.
var ErrAgentName = errors.New("invalid agent name")

// ValidateAgent reports whether name can stand as one token of a NATS subject:
// 1 to MaxAgentName letters, digits, '-' and '_'.
func ValidateAgent(name string) error {
	if name == "" || len(name) > MaxAgentName {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrAgentName, len(name), MaxAgentName)
	}
	for i := range len(name) {
		if c := name[i]; !isAgentByte(c) {
			return fmt.Errorf("%w: %q holds %q, allowed are letters, digits, '-' and '_'", ErrAgentName, name, c)
		}
	}
	return nil
}

// AgentName makes a valid agent name of a host name: every other byte becomes
// '-', and the rest is cut. An empty host name gives "unnamed".
func AgentName(host string) string {
	if host == "" {
		return "unnamed"
	}
	name := []byte(host[:min(len(host), MaxAgentName)])
	for i, c := range name {
		if !isAgentByte(c) {
			name[i] = '-'
		}
	}
	return string(name)
}

func isAgentByte(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// FlowSubject returns the subject on which agent publishes its batches.
func FlowSubject(agent string) string { return FlowSubjectPrefix + agent }

// AgentOfSubject returns the agent that a batch's subject names.
func AgentOfSubject(subject string) (string, error) {
	agent, ok := strings.CutPrefix(subject, FlowSubjectPrefix)
	if !ok {
		return "", fmt.Errorf("subject %q does not begin with %q", subject, FlowSubjectPrefix)
	}
	return agent, ValidateAgent(agent)
}

// Several collectors divide a stream among them by shards. A batch's shard follows
// from its agent's name. The stream itself writes it into the subject under which
// it keeps the batch, in place of "flows.v1": what came on
// ebbwatch.flows.v1.web-1 lies under ebbwatch.flows-v1-6.3.web-1 if that is shard 3
// of 6. A stream with one shard keeps the subjects as they are.
const shardedPrefix = "ebbwatch.flows-v1-"

// ShardTransform returns the subject transform of a stream with so many shards, ""
// and "" for one.
func ShardTransform(shards int) (source, destination string) {
	if shards == 1 {
		return "", ""
	}
	return FlowSubjectPrefix + "*", fmt.Sprintf("%s%d.{{partition(%d,1)}}.{{wildcard(1)}}", shardedPrefix, shards, shards)
}

// ShardsOfTransform returns for how many shards ShardTransform returns destination,
// and false if for none.
func ShardsOfTransform(destination string) (shards int, ok bool) {
	if destination == "" {
		return 1, true
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(destination, shardedPrefix), ".")
	shards, err := strconv.Atoi(number)
	if err != nil || shards < 2 {
		return 0, false
	}
	_, want := ShardTransform(shards)
	return shards, want == destination
}

// ShardFilter matches the subjects under which a stream with so many shards keeps
// the batches of one of them, counted from 0.
func ShardFilter(shards, shard int) string {
	if shards == 1 {
		return FlowSubjectPrefix + "*"
	}
	return fmt.Sprintf("%s%d.%d.*", shardedPrefix, shards, shard)
}

// StoredSubjectFilter matches the subjects under which the stream keeps the batches
// of agent, whatever its number of shards is or was.
func StoredSubjectFilter(agent string) string { return "ebbwatch.*.*." + agent }

// PublishedSubject returns the subject on which the batch came that the stream
// keeps under stored.
func PublishedSubject(stored string) string {
	if !strings.HasPrefix(stored, shardedPrefix) {
		return stored
	}
	tokens := strings.SplitN(stored, ".", 4)
	return FlowSubjectPrefix + tokens[len(tokens)-1]
}
