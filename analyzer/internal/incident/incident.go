// Package incident merges findings over entities and time.
package incident

import (
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Status says whether findings still arrive.
type Status string

const (
	Open   Status = "open"
	Closed Status = "closed"
)

// Incident is a set of findings that belong together.
type Incident struct {
	ID       string          `json:"id"`
	Status   Status          `json:"status"`
	Severity detect.Severity `json:"severity"` // the highest of its findings
	Title    string          `json:"title"`
	Kinds    []string        `json:"kinds"`
	Entities []string        `json:"entities"` // addresses
	Findings int             `json:"findings"`
	Started  time.Time       `json:"started"` // earliest start of a finding
	Ended    time.Time       `json:"ended"`   // latest end of a finding so far
	Opened   time.Time       `json:"opened"`  // when the analyzer opened it
}
