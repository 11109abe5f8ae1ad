package schema

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says how long rows are kept, and which skip indices there are. The
// database is brought to it at each start; see Migrator.Run.
type Config struct {
	RetentionDays RetentionDays `yaml:"retention_days"`
	// Indices are all skip indices of the tables: one that is not in the list is
	// dropped, one that is not in its table is added.
	Indices []Index `yaml:"indices"`
}

// RetentionDays says after how many days the rows of each table are deleted; 0
// leaves the time to live of the table as it is. Rows go with the last of their
// day, so that they may stay for a day longer.
type RetentionDays struct {
	Flows          uint32 `yaml:"flows"`          // at least ingest.max_age
	Flows1m        uint32 `yaml:"flows_1m"`       // one-minute sums
	Flows1h        uint32 `yaml:"flows_1h"`       // one-hour sums
	Pairs          uint32 `yaml:"pairs"`          // after the last traffic of a pair
	ServiceRTT5m   uint32 `yaml:"service_rtt_5m"` // five-minute sketches by server and port
	Processes5m    uint32 `yaml:"processes_5m"`   // five-minute sums by program
	Coverage       uint32 `yaml:"coverage"`       // at least ingest.max_age: it tells which batches are stored
	Runs           uint32 `yaml:"runs"`           // at least coverage, for the same reason
	Features       uint32 `yaml:"features"`
	Sources        uint32 `yaml:"sources"`
	RefusedBatches uint32 `yaml:"refused_batches"`
	Findings       uint32 `yaml:"findings"`
	Incidents      uint32 `yaml:"incidents"`
	Reports        uint32 `yaml:"reports"`
	Deliveries     uint32 `yaml:"deliveries"`
}

// Index is a data skipping index, in ClickHouse's words.
type Index struct {
	Table       string `yaml:"table"`
	Name        string `yaml:"name"`
	Expression  string `yaml:"expression"`  // of the table's columns
	Type        string `yaml:"type"`        // with its parameters, as bloom_filter(0.01)
	Granularity uint64 `yaml:"granularity"` // granules of the table in one of the index
}

// DefaultConfig returns what the migrations make.
func DefaultConfig() Config {
	return Config{
		RetentionDays: RetentionDays{
			Flows: 7, Flows1m: 30, Flows1h: 90, Pairs: 90, ServiceRTT5m: 30, Processes5m: 30, Coverage: 7, Runs: 90, Features: 7, Sources: 7, RefusedBatches: 30,
			Findings: 365, Incidents: 365, Reports: 365, Deliveries: 365,
		},
		Indices: []Index{
			{"flows", "start_minmax", "start", "minmax", 1},
			{"flows", "src_ip_bloom", "src_ip", "bloom_filter(0.01)", 4},
			{"flows", "dst_ip_bloom", "dst_ip", "bloom_filter(0.01)", 4},
			{"sources", "addr_bloom", "addr", "bloom_filter(0.01)", 4},
		},
	}
}

// retention is how long one table keeps its rows.
type retention struct {
	table string
	days  uint32
}

func (r RetentionDays) tables() []retention {
	return []retention{
		{"flows", r.Flows}, {"flows_1m", r.Flows1m}, {"flows_1h", r.Flows1h}, {"pairs", r.Pairs}, {"service_rtt_5m", r.ServiceRTT5m}, {"processes_5m", r.Processes5m},
		{"coverage", r.Coverage}, {"runs", r.Runs}, {"features", r.Features}, {"sources", r.Sources},
		{"refused_batches", r.RefusedBatches}, {"findings", r.Findings}, {"incidents", r.Incidents}, {"reports", r.Reports}, {"deliveries", r.Deliveries},
	}
}

// maxDays is 60 years: the time at which a row of today is deleted must lie before
// February 2106, where ClickHouse's DateTime ends. What lies beyond is counted from
// 1970 again, and all rows would be deleted at once.
const maxDays = 21900

var (
	plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)
	indexType = regexp.MustCompile(`^[a-z0-9_]+(\([A-Za-z0-9_., '=]*\))?$`)
)

// Validate names the keys that are wrong. oldest is the age of the oldest
// batch that is still stored.
func (c Config) Validate(oldest time.Duration) error {
	days := c.RetentionDays
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, r := range days.tables() {
		if r.days > maxDays {
			refuse("store.retention_days.%s: must be at most %d: ClickHouse would delete all rows at once, since its times end in 2106", r.table, maxDays)
		}
	}
	for _, r := range []retention{{"flows", days.Flows}, {"coverage", days.Coverage}} {
		if r.days > 0 && time.Duration(r.days)*24*time.Hour < oldest {
			refuse("store.retention_days.%s: is %d days, less than ingest.max_age, %s: rows would be deleted as they come, and batches that come again be stored twice. Raise it, or lower ingest.max_age",
				r.table, r.days, oldest)
		}
	}
	if days.Runs > 0 && (days.Coverage == 0 || days.Runs < days.Coverage) {
		refuse("store.retention_days.runs: must be at least that of coverage, or 0 where that is 0: without its row in runs, a batch that comes again is stored twice")
	}
	if days.Flows1h > 0 && (days.Flows1m == 0 || days.Flows1h < days.Flows1m) {
		refuse("store.retention_days.flows_1h: must be at least that of flows_1m, or 0 where that is 0: peers_of reads whole hours there and the rest in flows_1m")
	}
	for i, index := range c.Indices {
		key := fmt.Sprintf("store.indices[%d]", i)
		switch {
		case !plainName.MatchString(index.Table) || !plainName.MatchString(index.Name):
			refuse("%s: table and name must be of lower-case letters, digits and '_'", key)
		case index.Expression == "":
			refuse("%s: name the expression that is indexed", key)
		case !indexType.MatchString(index.Type):
			refuse("%s: the type must be one of ClickHouse's with its parameters, as bloom_filter(0.01), not %q", key, index.Type)
		case index.Granularity < 1 || index.Granularity > 1<<20:
			refuse("%s: granularity must be from 1 to %d", key, 1<<20)
		case slices.ContainsFunc(c.Indices[:i], func(o Index) bool { return o.Table == index.Table && o.Name == index.Name }):
			refuse("%s: table %s has two indices of the name %s", key, index.Table, index.Name)
		}
	}
	return config.All(wrong...)
}
