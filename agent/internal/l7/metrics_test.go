package l7

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	var p Parser
	for app := AppNone; app <= AppQUIC; app++ {
		for f := FlawNone; f < Flaws; f++ {
			h := Hint{App: app}
			if f != FlawNone {
				h.blame(max(app, AppDNS), f)
			}
			m.Hint(&h)
		}
	}
	h := p.Parse(&Beginning{Payload: []byte("\x16\x03"), Proto: protoTCP})
	m.Hint(&h)
	e := Pair(Hint{App: AppDNS, DNSID: 1}, Hint{App: AppDNS, DNSID: 2, Response: true})
	m.Exchange(&e)
	if got := testutil.ToFloat64(m.flaws[AppDNS][FlawName]); got != 2 {
		t.Errorf("%v flaws, want 2", got)
	}
	if got := testutil.ToFloat64(m.hints[AppNone]); got != float64(Flaws)+1 {
		t.Errorf("%v beginnings of no application", got)
	}
	if got := testutil.ToFloat64(m.mismatched); got != 1 {
		t.Errorf("%v mismatches, want 1", got)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 5+4*4+1 {
		t.Errorf("%d series, %v", n, err)
	}
}
