package store

import (
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

// Report is an incident or a period in words: a row of the table reports.
type Report struct {
	ID          string
	Kind        string // ReportIncident or ReportPeriodic
	Subject     string // incident id, or the schedule's name
	WindowStart time.Time
	WindowEnd   time.Time
	Severity    detect.Severity
	Title       string
	Author      string // "template", or the model that worded it
	Note        string // why the model's words were not used, or which claims were dropped
	Markdown    string
	HTML        string
	JSON        string
	Created     time.Time
}

// Kinds of reports.
const (
	ReportIncident = "incident"
	ReportPeriodic = "periodic"
)

// Delivery is the state of one report at one webhook endpoint: a row of the
// table deliveries, keyed by Report and Endpoint.
type Delivery struct {
	Report      string // report id
	Endpoint    string // name in the configuration
	State       string // one of the Delivery… constants
	Attempts    uint32
	HTTPStatus  uint16    // of the last answer, 0 if there was none
	Error       string    // why the last attempt failed, without the URL
	NextAttempt time.Time // when it is tried again; zero if it is not
	Updated     time.Time // time of the last attempt
}

// States of deliveries.
const (
	DeliveryPending   = "pending"
	DeliveryDelivered = "delivered"
	DeliveryRetrying  = "retrying"
	DeliveryFailed    = "failed"
)

// Page selects part of a list. Limit 0 means 100; more than 10,000 is cut.
type Page struct{ Limit, Offset int }

// FindingFilter selects findings; zero fields do not filter. The newest
// (by window_start) come first.
type FindingFilter struct {
	From, To    time.Time // findings that overlap [From, To)
	Incident    string    // incident id
	Kind        string
	Address     string // src or dst
	MinSeverity detect.Severity
	Page
}

// IncidentFilter selects incidents; zero fields do not filter. The latest
// started come first.
type IncidentFilter struct {
	From, To    time.Time // incidents that overlap [From, To)
	Status      incident.Status
	Kind        string // of at least one of its findings
	MinSeverity detect.Severity
	Page
}

// ReportFilter selects reports; zero fields do not filter. The newest come first.
type ReportFilter struct {
	From    time.Time // reports made then or later
	Kind    string
	Subject string
	Page
}

// DeliveryFilter selects deliveries; zero fields do not filter. The latest
// updated come first.
type DeliveryFilter struct {
	Report   string
	Endpoint string
	State    string
	Page
}

// Agent is the state of one agent as its coverage rows of the last ten minutes tell it.
type Agent struct {
	Name      string
	Version   string
	LastBeat  time.Time // end of its latest drain interval
	Received  time.Time // when the collector got that
	FlowsPerS float64   // flow records a second
	BitsPerS  float64   // seen at its attach points
	Coverage  float64   // share of the IP packets, or where they are sampled of those taken, that stand in flow records, 0 to 1; 1 if there were none
	Overflow  uint64    // packets that found no room in the flow map
	Gaps      uint64    // batches that are missing by their sequence numbers
	Losses    uint64    // what the agent itself gave up since its start, all counters

	Interfaces     []string // that it watches, by name; MaxInterfaces at most
	InterfaceCount uint64   // all that it watches; 0 if it watches none, or was silent for ten minutes
}

// MaxInterfaces is how many interfaces of an agent are named.
const MaxInterfaces = 20

// ThroughputPoint is one minute of all agents.
type ThroughputPoint struct {
	Minute  time.Time
	Bytes   uint64 // both ways, as recorded in flows
	Packets uint64
	Records uint64
	Flows   uint64 // conversations that began
}

// Ingest says up to when there is something of the agents in the store.
type Ingest struct {
	Watermark time.Time // up to here the data of every live agent is stored; zero without agents
	Newest    time.Time // end of the newest drain interval of any agent
	Batches   uint64    // batches of drains of the last five minutes
}

// Talker is a pair of hosts and what they exchanged.
type Talker struct {
	Src, Dst           string
	Port               uint16
	Proto              uint8
	SrcBytes, DstBytes uint64
	Flows              uint64
}
