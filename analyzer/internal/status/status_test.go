package status

import (
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/notify"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

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
		if got := judgeCollector(c.stream, Ingest{Newest: c.newest}, at); got.State != c.want {
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
