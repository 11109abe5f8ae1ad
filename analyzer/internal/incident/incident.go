// Package incident keeps what goes on over time: it joins the findings of
// successive windows into episodes (one attack, one finding, however many
// windows it lasts) and merges findings over entities and time into incidents.
//
// Everything here is deterministic: the same findings in the same order give
// the same ids and the same incidents. Time comes in as a parameter.
package incident

import (
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

// Status says whether findings still arrive.
type Status string

const (
	// Open is an incident whose findings go on, or ended only just now.
	Open Status = "open"
	// Closed is an incident that has been quiet for the configured time.
	Closed Status = "closed"
)

// Incident is a set of findings that belong together.
type Incident struct {
	ID       string          `json:"id"`
	Status   Status          `json:"status"`
	Severity detect.Severity `json:"severity"` // the highest of its findings
	Title    string          `json:"title"`
	Kinds    []string        `json:"kinds"`    // sorted
	Entities []string        `json:"entities"` // addresses, sorted; agents where there is no address
	Findings int             `json:"findings"`
	Started  time.Time       `json:"started"` // earliest start of a finding
	Ended    time.Time       `json:"ended"`   // latest end of a finding so far
	Opened   time.Time       `json:"opened"`  // end of the window that gave its first finding
}

// Change is an incident that differs from its last stored version.
type Change struct {
	Incident Incident
	Findings []detect.Finding // all that it has, the earliest first
	Updated  []detect.Finding // those of them whose stored version is not the latest
	New      []detect.Finding // those of them that were never stored
	// Notable is set when a person would want to know: the incident is new, more
	// severe, has a new kind of finding, or is closed. A change that is not
	// notable is more of the same.
	Notable bool

	revision uint64
}
