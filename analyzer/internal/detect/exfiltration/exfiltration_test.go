package exfiltration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

var window = detect.Window{Start: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), End: time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)}

func row(out, in uint64, edit func(*Row)) Row {
	r := Row{Agent: "a", Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("192.0.2.1"), Port: 443, OutBytes: out, InBytes: in,
		First: window.Start, Last: window.End, SrcRecords: 1000, DstRecords: 10}
	edit(&r)
	return r
}

// past is a day of minutes of which one in ten is busy.
func past(quiet, busy float64) func(*Row) {
	return func(r *Row) {
		for i := range 1440 {
			x := quiet
			if i%10 == 0 {
				x = busy
			}
			r.Past = append(r.Past, x)
		}
	}
}

func TestScore(t *testing.T) {
	for _, test := range []struct {
		name  string
		row   Row
		found bool
	}{
		{"a host that usually sends little sends a lot", row(100e6, 1e6, past(10e3, 1e6)), true},
		{"a host without a past must send more", row(40e6, 1e6, func(*Row) {}), false},
		{"and is found when it does", row(60e6, 1e6, func(*Row) {}), true},
		{"and is found with less severity when it talked to the peer before", row(100e6, 1e6, func(r *Row) { r.PairPeak = 1e6 }), true},
		{"below the floor", row(24e6, 1e6, past(10e3, 1e6)), false},
		{"a host that sends as much every minute", row(100e6, 1e6, past(90e6, 120e6)), false},
		{"a host that is busy one minute in ten", row(100e6, 1e6, past(10e3, 50e6)), false},
		{"an exchange in both directions", row(100e6, 60e6, past(10e3, 1e6)), false},
		{"a download", row(1e6, 500e6, past(10e3, 1e6)), false},
		{"a pair that has moved half as much before", row(100e6, 1e6, func(r *Row) { past(10e3, 1e6)(r); r.PairPeak = 50e6 }), false},
		{"a pair that has moved a tenth before", row(100e6, 1e6, func(r *Row) { past(10e3, 1e6)(r); r.PairPeak = 10e6 }), true},
		{"somebody else's upload", row(100e6, 1e6, func(r *Row) { r.SrcRecords, r.DstRecords = 10, 1000 }), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := Score(DefaultConfig(), window, []Row{test.row}, 100)
			if (len(findings) == 1) != test.found {
				t.Fatalf("%+v", findings)
			}
			severity := detect.High
			if len(test.row.Past) == 0 && test.row.PairPeak > 0 {
				severity = detect.Medium
			}
			if len(findings) == 1 && (findings[0].Kind != Kind || findings[0].Severity != severity || findings[0].Entity.Port != 443) {
				t.Errorf("%+v", findings[0])
			}
		})
	}
}
