package status

import (
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestAgentsAreJudgedByTheirProofs(t *testing.T) {
	for _, c := range []struct {
		name  string
		agent store.Agent
		want  State
	}{
		{"all is well", store.Agent{LastBeat: at.Add(-6 * time.Second), Coverage: 1}, OK},
		{"late", store.Agent{LastBeat: at.Add(-time.Minute), Coverage: 1}, Warn},
		{"silent", store.Agent{LastBeat: at.Add(-time.Hour), Coverage: 1}, Down},
		{"packets without room", store.Agent{LastBeat: at, Overflow: 1}, Warn},
		{"a batch is missing", store.Agent{LastBeat: at, Gaps: 1}, Warn},
	} {
		if got := agentState(c.agent, at); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		states []State
		want   Part
	}{
		{nil, Part{"agents", Warn, "none has reported within a day"}},
		{[]State{OK}, Part{"agents", OK, "1 agent reports"}},
		{[]State{OK, Warn, OK}, Part{"agents", Warn, "3 agents report, 1 late or with losses"}},
		{[]State{OK, Down}, Part{"agents", Warn, "1 agent reports, 1 silent"}},
		{[]State{Down, Down}, Part{"agents", Down, "no agent has reported for five minutes"}},
	} {
		var agents []Agent
		for _, s := range c.states {
			agents = append(agents, Agent{State: s})
		}
		if got := judgeAgents(agents); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.states, got, c.want)
		}
	}
}

func TestTheCollectorIsGoneOnlyIfNothingComesFromIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream Stream
		newest time.Time
		want   State
	}{
		{"it asks for more", Stream{Collectors: 1}, time.Time{}, OK},
		{"between two requests", Stream{}, at.Add(-5 * time.Second), OK},
		{"it works on a batch", Stream{Unacked: 3, Pending: 10}, at.Add(-time.Hour), OK},
		{"it is far behind", Stream{Collectors: 1, Pending: 5000}, at, Warn},
		{"it refused something", Stream{Collectors: 1, DeadLetters: 1}, at, Warn},
		{"nothing asks and nothing comes", Stream{Pending: 10}, at.Add(-time.Minute), Down},
	} {
		if got := judgeCollector(c.stream, c.newest, at); got.State != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestDetectorsAreLateAgainstTheDataNotTheClock(t *testing.T) {
	for _, c := range []struct {
		name     string
		newest   time.Time
		until    time.Time
		database State
		want     State
	}{
		{"no data", time.Time{}, time.Time{}, OK, OK},
		{"first window not over", at, time.Time{}, OK, OK},
		{"data stopped long ago and was looked at", at.Add(-time.Hour), at.Add(-time.Hour), OK, OK},
		{"behind", at, at.Add(-5 * time.Minute), OK, Warn},
		{"no store", at, at, Down, Warn},
	} {
		s := Status{Ingest: Ingest{Newest: c.newest}, Detectors: []Detector{{Name: "scan", Until: c.until}}}
		if got := judgeDetectors(s, c.database); got.State != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestWebhooksShowFailures(t *testing.T) {
	for _, c := range []struct {
		states []notify.State
		want   Part
	}{
		{nil, Part{"webhooks", Off, "none configured: reports stay here"}},
		{[]notify.State{{Name: "a"}, {Name: "b", Waiting: 1}}, Part{"webhooks", OK, "2 endpoints"}},
		{[]notify.State{{Name: "a", Retrying: 2}}, Part{"webhooks", Warn, "2 reports are tried again"}},
		{[]notify.State{{Name: "a", Retrying: 2}, {Name: "b", Disabled: true}}, Part{"webhooks", Down, "1 endpoint answers 410 Gone"}},
	} {
		collector := &Collector{Webhooks: func() []notify.State { return c.states }}
		if got := collector.fromWebhooks(&Status{}); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
