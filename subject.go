package ebbwatch

import (
	"errors"
	"fmt"
	"strings"
)

// The names that agents, collectors and analyzers meet under in NATS.
const (
	// FlowSubjectPrefix precedes the agent's name in the subject of a batch.
	FlowSubjectPrefix = "ebbwatch.flows.v1."
	// FlowStream is the work-queue stream that holds batches until a collector has stored them.
	FlowStream = "EBBWATCH_FLOWS"
	// FlowConsumer is the durable pull consumer that collectors share.
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
