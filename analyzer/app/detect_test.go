package app

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/storetest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

const (
	watched  = "10.9.0.2"
	attacker = "10.9.0.66"
	outside  = "203.0.113.7"
)

// scenario is traffic of the host watched, that its own agent saw.
type scenario struct {
	name  string
	flows func(at time.Time, dice *rand.Rand) []ebbwatch.Flow
	want  []string      // "kind src>dst:port", one for each finding
	past  time.Duration // of ordinary traffic before and beside it
	says  string        // a part of the summary of the first finding
	lasts time.Duration // the longest that the first finding may cover; 0 for any
}

// flood returns a SYN flood of 2000 a second for 10 s.
func flood(at time.Time, src func(i int) string, one func(at time.Time, src, dst string, port uint16) ebbwatch.Flow) []ebbwatch.Flow {
	return storetest.Repeat(at, 20_000, 500*time.Microsecond, func(at time.Time, i int) ebbwatch.Flow { return one(at, src(i), watched, 80) })
}

func always(addr string) func(int) string { return func(int) string { return addr } }

func many(prefix string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s.%d.%d", prefix, i/250%250, i%250+1) }
}

func scenarios() []scenario {
	return []scenario{
		{"a SYN flood from one source with no answer is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return flood(at, always(attacker), storetest.Unanswered)
		}, []string{"syn_flood >10.9.0.2:80"}, time.Hour, ", from 10.9.0.66; ", 10 * time.Second},
		{"a SYN flood of an open port, whose SYN-ACKs are reset, is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return flood(at, always(attacker), storetest.Ignored)
		}, []string{"syn_flood >10.9.0.2:80"}, 0, "", 0},
		{"a SYN flood whose source is joined by a few others is said to be mostly of it", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return flood(at, func(i int) string {
				if i%20 > 0 {
					return attacker
				}
				return many("198.18")(i)
			}, storetest.Ignored)
		}, []string{"syn_flood >10.9.0.2:80"}, 0, ", mostly from 10.9.0.66; ", 0},
		{"a SYN flood from forged sources is one finding and no scan", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return flood(at, many("198.18"), storetest.Unanswered)
		}, []string{"syn_flood >10.9.0.2:80"}, 0, "", 0},
		{"a flash crowd completes its handshakes and is no flood", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return flood(at, many("198.18"), func(at time.Time, src, dst string, port uint16) ebbwatch.Flow {
				return storetest.Conn(at, src, dst, port, 400, 20_000)
			})
		}, nil, time.Hour, "", 0},
		{"a crashed server that refuses its busy client is no flood", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return append(storetest.Repeat(at.Add(-20*time.Second), 4000, 5*time.Millisecond, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Conn(at, "10.9.1.7", watched, 8080, 400, 2000)
			}), storetest.Repeat(at, 6000, 5*time.Millisecond, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Refused(at, "10.9.1.7", watched, 8080)
			})...)
		}, nil, time.Hour, "", 0},
		{"a SYN flood at a port that is closed is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 20_000, time.Millisecond, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Refused(at, attacker, watched, 81)
			})
		}, []string{"syn_flood >10.9.0.2:81"}, time.Hour, "", 0},
		{"backscatter of a flood that was forged elsewhere is nothing", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 20_000, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				// A SYN-ACK comes out of nowhere: whoever it goes to looks like the initiator.
				f := storetest.Unanswered(at, watched, many("198.18")(i), 80)
				f.SrcPackets, f.SrcBytes, f.SrcFlags = 0, 0, 0
				f.DstPackets, f.DstBytes, f.DstFlags, f.ConnState = 1, 58, ebbwatch.FlagSYN|ebbwatch.FlagACK, ebbwatch.StateSHR
				return f
			})
		}, nil, 0, "", 0},
		{"a flood of UDP that nobody answers is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 10_000, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				f := storetest.Datagram(at, many("198.18")(i), watched, 40_000, 1200, 0)
				f.SrcPackets, f.SrcBytes = 20, 20*1242
				return f
			})
		}, []string{"volume >10.9.0.2:0"}, time.Hour, "", 0},
		{"a port scan of closed ports is found, and its target is not blamed", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 1000, 3*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Refused(at, attacker, watched, uint16(i+1))
			})
		}, []string{"port_scan 10.9.0.66>10.9.0.2:0"}, time.Hour, "", 0},
		{"a port scan is dated by its probes, not by what its pair did before", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			before := storetest.Repeat(at.Add(-20*time.Second), 300, 2*time.Millisecond, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Refused(at, attacker, watched, 81)
			})
			return slices.Concat(before, []ebbwatch.Flow{storetest.Conn(at.Add(-25*time.Second), attacker, watched, 80, 500, 9000)},
				storetest.Repeat(at, 1000, 500*time.Microsecond, func(at time.Time, i int) ebbwatch.Flow {
					return storetest.Refused(at, attacker, watched, uint16(i+1))
				}))
		}, []string{"port_scan 10.9.0.66>10.9.0.2:0"}, 0, "within 1s", time.Second},
		{"a port scan tells how many ports are open, also where it lets them go", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 1000, time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				switch i {
				case 22, 80:
					return storetest.Ignored(at, attacker, watched, uint16(i))
				case 443:
					return storetest.Conn(at, attacker, watched, 443, 10, 10)
				}
				return storetest.Refused(at, attacker, watched, uint16(i+1))
			})
		}, []string{"port_scan 10.9.0.66>10.9.0.2:0"}, 0, "994 of them gave no useful answer, 3 answered.", 0},
		{"a scan of many hosts that all answer and are let go is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 200, 100*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Ignored(at, watched, many("10.9")(i), 443)
			})
		}, []string{"host_scan 10.9.0.2>:0"}, 0, "; 0 of them gave no useful answer, 20", 0},
		{"a scan of many hosts is found", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 200, 100*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Unanswered(at, watched, many("10.9")(i), 445)
			})
		}, []string{"host_scan 10.9.0.2>:0"}, 0, "", 0},
		{"a monitor that polls thirty hosts every 15 s is neither scan nor beacon", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 30*20, 500*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Conn(at, watched, fmt.Sprintf("10.9.7.%d", i%30+1), 9100, 200, 9000)
			})
		}, nil, 0, "", 0},
		{"a call every 5 s is a beacon", func(at time.Time, dice *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 20, 5*time.Second, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Conn(at.Add(time.Duration(dice.IntN(400))*time.Millisecond), watched, outside, 8443, 300, 600)
			})
		}, []string{"beacon 10.9.0.2>203.0.113.7:8443"}, 0, "", 0},
		{"a person who reads the web is no beacon", func(at time.Time, dice *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 60, 0, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Conn(at.Add(time.Duration(dice.IntN(300_000))*time.Millisecond), watched, outside, 443, 900, 80_000)
			})
		}, nil, 0, "", 0},
		{"thirty clients that poll one service are no beacons", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 30*20, 500*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Conn(at, fmt.Sprintf("10.9.7.%d", i%30+1), watched, 8080, 200, 900)
			})
		}, nil, 0, "", 0},
		{"a busy NTP client of six servers is no beacon", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 6*40, 1200*time.Millisecond, func(at time.Time, i int) ebbwatch.Flow {
				return storetest.Datagram(at, watched, fmt.Sprintf("198.51.100.%d", i%6+1), 123, 48, 48)
			})
		}, nil, 0, "", 0},
		{"a bulk upload to a stranger is exfiltration", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Transfer(at, 12*time.Second, watched, outside, 9000, 25e6, 1000)
		}, []string{"exfiltration 10.9.0.2>203.0.113.7:9000"}, time.Hour, "", 0},
		{"a bulk upload is dated by its bytes, not by other calls of the pair", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			calls := storetest.Repeat(at.Add(-20*time.Second), 8, 7*time.Second, func(at time.Time, _ int) ebbwatch.Flow {
				return storetest.Conn(at, watched, outside, 9000, 900, 900)
			})
			return append(calls, storetest.Transfer(at, 15*time.Second, watched, outside, 9000, 25e6, 1000)...)
		}, []string{"exfiltration 10.9.0.2>203.0.113.7:9000"}, 0, "nearly all within 15s", 15 * time.Second},
		{"a bulk upload by a host without a past is exfiltration", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Transfer(at, 12*time.Second, watched, outside, 9000, 25e6, 1000)
		}, []string{"exfiltration 10.9.0.2>203.0.113.7:9000"}, 0, "", 0},
		{"a bulk download is none", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Transfer(at, 60*time.Second, watched, outside, 443, 50_000, 25e6)
		}, nil, time.Hour, "", 0},
		{"somebody else's upload to this host is none of its", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Transfer(at, 12*time.Second, outside, watched, 443, 25e6, 1000)
		}, nil, time.Hour, "", 0},
		{"a backup of the usual size to the usual place is none", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return append(storetest.Transfer(at.Add(-24*time.Hour), time.Minute, watched, outside, 22, 20e6, 1000),
				storetest.Transfer(at, time.Minute, watched, outside, 22, 25e6, 1000)...)
		}, nil, time.Hour, "", 0},
		{"an outward SYN flood is no exfiltration", func(at time.Time, _ *rand.Rand) []ebbwatch.Flow {
			return storetest.Repeat(at, 20_000, 500*time.Microsecond, func(at time.Time, _ int) ebbwatch.Flow {
				f := storetest.Ignored(at, watched, outside, 443)
				f.SrcBytes = 60_000
				return f
			})
		}, []string{"syn_flood >203.0.113.7:443"}, 0, "", 0},
		{"an ordinary hour is nothing", func(time.Time, *rand.Rand) []ebbwatch.Flow { return nil }, nil, time.Hour, "", 0},
	}
}

// ordinary returns traffic like that of a small server: pages, names, some
// refused connections, a few MB up and down.
func ordinary(from time.Time, d time.Duration, dice *rand.Rand) []ebbwatch.Flow {
	var flows []ebbwatch.Flow
	for at := from; at.Before(from.Add(d)); at = at.Add(time.Duration(dice.ExpFloat64() * float64(2*time.Second))) {
		client := fmt.Sprintf("10.9.1.%d", dice.IntN(40)+1)
		switch n := dice.IntN(100); {
		case n < 50:
			flows = append(flows, storetest.Conn(at, client, watched, 80, 500, uint64(dice.ExpFloat64()*100_000)))
		case n < 80:
			flows = append(flows, storetest.Datagram(at, watched, "10.9.0.53", 53, 40, 120))
		case n < 95:
			flows = append(flows, storetest.Conn(at, watched, fmt.Sprintf("192.0.2.%d", dice.IntN(30)+1), 443, uint64(dice.ExpFloat64()*200_000), 50_000))
		default:
			flows = append(flows, storetest.Refused(at, client, watched, 81))
		}
	}
	return flows
}

func TestDetectors(t *testing.T) {
	server := chtest.Start(t)
	db := storetest.New(t, server)
	s := db.Open(t)
	start := time.Now().UTC().Truncate(time.Hour).Add(-6 * time.Hour)
	for i, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			for _, table := range []string{"flows", "flows_1m", "coverage"} {
				db.Exec(t, "TRUNCATE TABLE "+table)
			}
			dice := rand.New(rand.NewPCG(1, uint64(i)))
			at := start.Add(time.Duration(dice.IntN(10_000)) * time.Millisecond)
			db.Insert(t, "watched-1", ordinary(at.Add(-sc.past), sc.past+2*time.Minute, dice))
			flows, to := sc.flows(at, dice), at.Add(time.Minute)
			db.Insert(t, "watched-1", flows)
			for _, f := range flows {
				if f.Start.After(to) {
					to = f.Start
				}
			}
			detectors := DefaultDetectors()
			run := func() []detect.Finding {
				findings, err := schedule.Backtest(t.Context(), detectors.list(s), s.Explain, incident.DefaultConfig(), at.Add(-30*time.Second), to.Add(30*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				return findings
			}
			findings := run()
			got := make([]string, len(findings))
			for i, f := range findings {
				got[i] = fmt.Sprintf("%s %s>%s:%d", f.Kind, f.Entity.Src, f.Entity.Dst, f.Entity.Port)
			}
			if !slices.Equal(got, append([]string{}, sc.want...)) {
				t.Errorf("found %q, want %q", got, sc.want)
			}
			for i, f := range findings {
				checkFinding(t, db, f)
				if lasts := f.WindowEnd.Sub(f.WindowStart); i == 0 && (!strings.Contains(f.Summary, sc.says) || sc.lasts > 0 && lasts > sc.lasts) {
					t.Errorf("finding covers %v and says %q, want %v and %q", lasts, f.Summary, sc.lasts, sc.says)
				}
			}
			if len(findings) == 0 || i%4 != 0 { // the second run doubles the time of the test
				return
			}
			if again := run(); !slices.EqualFunc(findings, again, func(a, b detect.Finding) bool { return a.ID == b.ID && a.WindowEnd.Equal(b.WindowEnd) }) {
				t.Errorf("a second run over the same time gives other findings:\n%+v\n%+v", findings, again)
			}
		})
	}
}

// checkFinding runs the query of the evidence and compares its columns.
func checkFinding(t *testing.T, db *storetest.DB, f detect.Finding) {
	t.Helper()
	if f.Score <= 0 || f.Score > 1 || f.PValue < 0 || f.PValue > 1 || f.Severity < detect.Low || f.Summary == "" || len(f.Evidence) == 0 {
		t.Errorf("finding is incomplete: %+v", f)
		return
	}
	query := f.Evidence[0].Query
	row := db.Row(t, query)
	for _, e := range f.Evidence {
		if e.Query != query {
			t.Errorf("%s: evidence %s has a query of its own:\n%s", f.Kind, e.Metric, e.Query)
		}
		value, ok := row[e.Metric]
		if diff := value - e.Value; !ok || diff > 0.01*value || diff < -0.01*value {
			t.Errorf("%s: %s is %v, but the query gives %v:\n%s", f.Kind, e.Metric, e.Value, row, query)
		}
	}
}
