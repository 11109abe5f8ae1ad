package scan

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func row(targets, failed uint64) Row {
	return Row{Agent: "a", Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.1"), Targets: targets, Failed: failed,
		Attempts: targets, First: at, Last: at.Add(3 * time.Second)}
}

func TestScore(t *testing.T) {
	for _, test := range []struct {
		name   string
		cfg    Config
		row    Row
		tested uint64
		want   detect.Severity // 0 for no finding
	}{
		{"the least scan", FastConfig(), row(15, 15), 10, detect.Medium},
		{"one target fewer", FastConfig(), row(14, 14), 10, 0},
		{"ten times the least", FastConfig(), row(1000, 900), 10, detect.High},
		{"a crawler of which some targets fail", FastConfig(), row(200, 60), 10, 0},
		{"a host half of whose targets fail, among few", FastConfig(), row(40, 20), 10, detect.Medium},
		{"the same among so many that chance explains it", FastConfig(), row(40, 20), 1_000_000_000, 0},
		{"a slow scan of five ports of a day", SlowConfig(), row(5, 5), 100, detect.Low},
		{"a slow scan that became many", SlowConfig(), row(20, 20), 100, detect.Medium},
		{"a client of five services, of which three are down", SlowConfig(), row(5, 3), 100, 0},
		{"a busy client whose failures are at the benign rate", FastConfig(), row(10_000, 2000), 10, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := Score(test.cfg, []Row{test.row}, test.tested)
			if (len(findings) == 1) != (test.want != 0) {
				t.Fatalf("%d findings: %+v", len(findings), findings)
			}
			if len(findings) == 1 && (findings[0].Severity != test.want || findings[0].Kind != PortScan) {
				t.Errorf("%+v", findings[0])
			}
		})
	}
}

func TestWordsNameTheService(t *testing.T) {
	r := row(20, 20)
	r.Dst = netip.Addr{}
	for _, test := range []struct {
		proto uint8
		port  uint16
		want  string
	}{
		{6, 445, "10.0.0.9 tried TCP port 445 on 20 hosts within 3s; 20 of them gave no useful answer."},
		{17, 161, "10.0.0.9 tried UDP port 161 on 20 hosts within 3s; 20 of them gave no useful answer."},
		{1, 0, "10.0.0.9 tried ICMP echo on 20 hosts within 3s; 20 of them gave no useful answer."},
	} {
		r.Proto, r.Port = test.proto, test.port
		findings := Score(FastConfig(), []Row{r}, 1)
		if len(findings) != 1 || findings[0].Summary != test.want || findings[0].Kind != HostScan || findings[0].Entity.Dst != "" {
			t.Errorf("%+v", findings)
		}
	}
}

func TestAScanOfANetworkForManyPortsIsOneFinding(t *testing.T) {
	var rows []Row
	for port := range uint16(100) {
		r := row(20, 20)
		if r.Dst, r.Proto, r.Port = (netip.Addr{}), 6, port+1; port == 42 {
			r.Targets, r.Failed = 30, 30
		}
		rows = append(rows, r)
	}
	findings := widest(Score(FastConfig(), rows, 100))
	want := "10.0.0.9 tried TCP port 43 on 30 hosts within 3s; 30 of them gave no useful answer. It scanned 100 ports in this way."
	if len(findings) != 1 || findings[0].Summary != want || findings[0].Entity != (detect.Entity{Src: "10.0.0.9", Host: "a"}) {
		t.Errorf("%+v", findings)
	}
}
