// Package ebbwatch is the contract between the agent and the collector: the
// flow record, the batch that carries records, its versioned codec, and the
// NATS subjects and streams that batches travel through.
//
// It holds no behaviour of either side. Everything here is stable: a field of
// the wire format is never renumbered, an old agent's batch stays decodable,
// and a column that a decoder does not know is skipped.
package ebbwatch
