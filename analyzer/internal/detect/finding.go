// Package detect holds what every detector shares: the finding and its evidence.
package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Severity says how urgent a finding, incident or report is. Its values are
// those of the SQL columns.
type Severity uint8

// Severities, the least first.
const (
	Info Severity = iota + 1
	Low
	Medium
	High
	Critical
)

var severityNames = [...]string{"", "info", "low", "medium", "high", "critical"}

// String returns the name that SQL, JSON and reports use.
func (s Severity) String() string {
	if s < Info || s > Critical {
		return fmt.Sprintf("invalid(%d)", uint8(s))
	}
	return severityNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) {
	if s < Info || s > Critical {
		return nil, fmt.Errorf("severity %d is out of range", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	for i := Info; i <= Critical; i++ {
		if severityNames[i] == string(text) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("severity %q: want info, low, medium, high or critical", text)
}

// Entity is what a finding is about. Empty fields do not take part.
type Entity struct {
	Src  string `json:"src,omitempty"`  // initiating address
	Dst  string `json:"dst,omitempty"`  // responding address
	Port uint16 `json:"port,omitempty"` // responder port
	Host string `json:"host,omitempty"` // agent that saw it
}

// Evidence is one measured fact behind a finding.
type Evidence struct {
	ID       string   `json:"id"` // unique within the finding
	Metric   string   `json:"metric"`
	Value    float64  `json:"value"`
	Unit     string   `json:"unit"`
	Baseline *float64 `json:"baseline,omitempty"`
	Query    string   `json:"query"` // SQL that a reader can run to see it
}

// Finding is one detector's statement about one entity in one window.
type Finding struct {
	ID          string     `json:"id"`
	Detector    string     `json:"detector"`
	Kind        string     `json:"kind"`
	Entity      Entity     `json:"entity"`
	WindowStart time.Time  `json:"window_start"`
	WindowEnd   time.Time  `json:"window_end"`
	Score       float64    `json:"score"`   // 0 to 1, comparable within one detector
	PValue      float64    `json:"p_value"` // 1 where the detector has no null model
	Severity    Severity   `json:"severity"`
	Summary     string     `json:"summary"` // one sentence
	Evidence    []Evidence `json:"evidence"`
	Incident    string     `json:"incident,omitempty"` // set when merged
}

// FindingID returns the id of a finding: the same kind, entity and key (usually
// the start of the window or of the episode) always give the same id, so that a
// second run over the same time replaces findings and never doubles them.
func FindingID(kind string, e Entity, key time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%s\x00%d", kind, e.Src, e.Dst, e.Port, e.Host, key.UnixMilli()))
	return "f-" + hex.EncodeToString(sum[:8])
}
