package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

func TestALateAgentIsToldOfByNameAndNotAtEveryLook(t *testing.T) {
	var out bytes.Buffer
	metrics := schedule.NewMetrics(prometheus.NewRegistry())
	c := newClock(nil, schedule.DefaultConfig(), metrics, slog.New(slog.NewTextHandler(&out, nil)))
	late := []store.Beat{{Agent: "web-1", Holds: true}, {Agent: "web-2", Late: true, Skew: 2 * time.Hour, Missing: 4, LostGaps: 3}}
	now := time.Now()
	for range 5 {
		c.tell(late, now)
		now = now.Add(time.Second)
	}
	if n := strings.Count(out.String(), "agent=web-2 late_by=2h0m0s"); n != 1 {
		t.Errorf("told %d times:\n%s", n, out.String())
	}
	if n := strings.Count(out.String(), "agent=web-2 batches=4"); n != 1 || strings.Contains(out.String(), "web-1") {
		t.Errorf("told %d times of the gaps:\n%s", n, out.String())
	}
	if v, n := testutil.ToFloat64(metrics.Late.WithLabelValues("web-2")), testutil.CollectAndCount(metrics.Late); v != 7200 || n != 1 {
		t.Errorf("late by %v s, %d agents", v, n)
	}
	if v := testutil.ToFloat64(metrics.LostGaps); v != 3 {
		t.Errorf("%v gaps", v)
	}
	c.tell(late, now.Add(sayAgain))
	if n := strings.Count(out.String(), "late_by"); n != 2 {
		t.Errorf("told %d times after %v", n, sayAgain)
	}
	if c.tell(nil, now); testutil.CollectAndCount(metrics.Late) != 0 {
		t.Error("an agent that is on time again is still shown")
	}
}
