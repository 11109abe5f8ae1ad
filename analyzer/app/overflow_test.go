package app

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

func TestAScanBeyondTheFlowMap(t *testing.T) {
	server := chtest.Start(t)
	db := storetest.New(t, server)
	s := db.Open(t)
	at := time.Now().UTC().Truncate(time.Hour).Add(-6 * time.Hour)
	// source is what the agent says of the attacker after each second of a drain.
	source := func(targets, overflow uint64) []storetest.Source {
		var rows []storetest.Source
		for i := range 5 {
			n := uint64(i + 1)
			rows = append(rows, storetest.Source{Time: at.Add(time.Duration(i+1) * time.Second), Addr: attacker, IntervalMS: uint32(1000 * n), Flows: n * targets / 5, Targets: n * targets / 5, Overflow: n * overflow / 5})
		}
		return rows
	}
	others := source(20_000, 10_000)
	for i := range others {
		others[i].Others = true
	}
	for _, test := range []struct {
		name    string
		sources []storetest.Source
		flows   []ebbwatch.Flow
		want    string // kind and source
		says    string
	}{
		{"of which nothing is recorded is found", source(20_000, 19_000), nil, "wide_scan 10.9.0.66", "10.9.0.66 tried about 20000 targets (address, protocol and port) at watched-1 within one drain interval; 19000 of its packets"},
		{
			"of which a part is recorded is one finding that tells of both", source(20_000, 19_000),
			storetest.Repeat(at.Add(time.Second), 500, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Refused(at, attacker, watched, uint16(i+1))
			}), "port_scan 10.9.0.66", "500 of them gave no useful answer. With what found no room in the flow map it tried about 20000.",
		},
		{"is none if all of it had room", source(20_000, 0), nil, "", ""},
		{"is none if the targets are few", source(900, 19_000), nil, "", ""},
		{
			"is none of who answers more than it asks", source(20_000, 19_000),
			storetest.Repeat(at.Add(time.Second), 500, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Datagram(at, many("198.18")(i), attacker, 53, 40, 100)
			}), "", "",
		},
		{"is none of all others together", others, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, table := range []string{"flows", "flows_1m", "coverage", "sources"} {
				db.Exec(t, "TRUNCATE TABLE "+table)
			}
			db.Insert(t, "watched-1", append(test.flows, storetest.Conn(at, "10.9.1.1", watched, 80, 10, 10)))
			db.Sources(t, "watched-1", test.sources...)
			detectors := DefaultDetectors()
			findings, err := schedule.Backtest(t.Context(), detectors.list(s), s.Explain, incident.DefaultConfig(), at.Add(-30*time.Second), at.Add(90*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range findings {
				got = append(got, fmt.Sprintf("%s %s", f.Kind, f.Entity.Src))
				checkFinding(t, db, f)
				if !strings.Contains(f.Summary, test.says) {
					t.Errorf("it says %q, want %q", f.Summary, test.says)
				}
			}
			if strings.Join(got, ", ") != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
