package schema_test

import (
	"strings"
	"testing"
	"time"
)

// The data behind these answers: web-1 (10.0.0.1) opens two conversations to
// 10.0.0.9:443, one of them in two records, and one to 2001:db8::9:53 that nobody
// answers; 10.0.0.2 opened one to 10.0.0.9:443 three days ago and again now.
const sampleFlows = `INSERT INTO %.flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling) VALUES
('web-1', 'eth0', now64(3) - 30, 1000, '10.0.0.1', '10.0.0.9', 40001, 443, 6, 'syn', 2, 200, 1, 1000, 2, 18, 'S1', 0, false, 1),
('web-1', 'eth0', now64(3) - 20, 500, '10.0.0.1', '10.0.0.9', 40001, 443, 6, 'syn', 1, 100, 1, 500, 17, 17, 'SF', 5000, true, 1),
('web-1', 'eth0', now64(3) - 10, 0, '10.0.0.1', '10.0.0.9', 40002, 443, 6, 'syn', 1, 60, 1, 54, 2, 20, 'REJ', 0, true, 1),
('web-1', 'eth0', now64(3) - 9, 0, '10.0.0.1', '2001:db8::9', 40003, 53, 17, 'first', 1, 80, 0, 0, 0, 0, 'S0', 0, true, 1),
('web-2', 'eth0', now64(3) - 259200, 0, '10.0.0.2', '10.0.0.9', 40004, 443, 6, 'syn', 1, 10, 1, 10, 2, 18, 'SF', 0, true, 1),
('web-2', 'eth0', now64(3) - 5, 0, '10.0.0.2', '10.0.0.9', 40005, 443, 6, 'syn', 1, 10, 1, 10, 2, 18, 'SF', 0, true, 1)`

// Of the first conversation, and of one to 203.0.113.5:99 that no interface saw, the
// kernel dropped something in an interval without packets: that is no traffic.
const sampleDrops = `INSERT INTO %.flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, conn_state, age_ms, final, sampling, src_drops, drop_reason) VALUES
('web-1', 'eth0', now64(3) - 15, 0, '10.0.0.1', '10.0.0.9', 40001, 443, 6, 'syn', 'SF', 9000, false, 1, 3, 'NETFILTER_DROP'),
('web-1', '', now64(3) - 8, 0, '10.0.0.1', '203.0.113.5', 40007, 99, 17, 'first', 'OTH', 1, false, 1, 4, 'IP_OUTNOROUTES')`

const sampleCoverage = `INSERT INTO %.coverage (time, received, agent, agent_version, boot, sequence, interval_ms, flows, interface, direction, seen_packets, seen_bytes, recorded_packets, recorded_bytes, overflow_packets, overflow_bytes, other_packets, other_bytes, losses) VALUES
(now64(3) - 60, now64(3), 'web-1', 'v1', 'boot-a', 1, 5000, 3, 'eth0', 'ingress', 100, 1000, 90, 900, 8, 80, 2, 20, {}),
(now64(3) - 60, now64(3), 'web-1', 'v1', 'boot-a', 1, 5000, 0, 'eth0', 'egress', 100, 1000, 100, 1000, 0, 0, 0, 0, {}),
(now64(3) - 30, now64(3), 'web-1', 'v2', 'boot-b', 3, 5000, 1, 'eth0', 'ingress', 0, 0, 0, 0, 0, 0, 0, 0, {'queue_dropped_batches': 4}),
(now64(3) - 28, now64(3), 'web-1', 'v2', 'boot-b', 6, 5000, 1, 'eth0', 'ingress', 0, 0, 0, 0, 0, 0, 0, 0, {'queue_dropped_batches': 5})`

const sampleFindings = `INSERT INTO %.findings (id, version, detector, kind, src, dst, port, host, window_start, window_end, score, p_value, severity, summary, evidence.id, evidence.metric, evidence.value, evidence.unit, evidence.baseline, evidence.query, incident) VALUES
('f-1', 1, 'scan', 'port_scan', '10.0.0.1', '', 0, 'web-1', now64(3) - 60, now64(3) - 30, 0.5, 1, 'low', 'old', ['ports'], ['ports'], [10], ['ports'], [NULL], ['SELECT 1'], ''),
('f-1', 2, 'scan', 'port_scan', '10.0.0.1', '', 0, 'web-1', now64(3) - 60, now64(3) - 20, 0.9, 1, 'high', 'new', ['ports', 'rate'], ['ports', 'rate'], [1000, 50.5], ['ports', '1/s'], [3, NULL], ['SELECT 1', 'SELECT 2'], 'i-1')`

var sampleConclusions = []string{
	"INSERT INTO %.incidents (id, version, status, severity, title, kinds, entities, findings, started, ended, opened) VALUES ('i-1', 1, 'open', 'high', 'old', ['port_scan'], ['10.0.0.1'], 1, now64(3) - 60, now64(3) - 50, now64(3)), ('i-1', 2, 'closed', 'high', 'scan', ['port_scan'], ['10.0.0.1'], 1, now64(3) - 60, now64(3) - 20, now64(3))",
	"INSERT INTO %.reports (id, version, kind, subject, window_start, window_end, severity, title, author, note, markdown, html, json, created) VALUES ('r-1', 1, 'incident', 'i-1', now64(3), now64(3), 'high', 'A scan', 'template', '', '# A', '', '{}', now64(3))",
	"INSERT INTO %.deliveries (report, endpoint, version, state, attempts, http_status, error, next_attempt, updated) VALUES ('r-1', 'pager', 1, 'retrying', 1, 500, 'no', now64(3), now64(3)), ('r-1', 'pager', 2, 'delivered', 2, 204, '', now64(3), now64(3))",
}

func answers(t *testing.T, b *bed) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := "toDateTime64('" + time.Now().UTC().Format(time.DateTime) + "', 3, 'UTC')" // one instant for every row
	fill := func(query string) string {
		return strings.NewReplacer("%", b.conn.Database, "now64(3)", base).Replace(query)
	}
	for _, statement := range append([]string{sampleFlows, sampleDrops, sampleCoverage, sampleFindings}, sampleConclusions...) {
		b.ch.Query(t, fill(statement))
	}
	for query, want := range map[string]string{
		"SELECT address, bytes, sent_bytes, received_bytes, packets, peers, connections_opened, connections_accepted FROM %.top_talkers ORDER BY address":                                                                          "10.0.0.1|1994|440|1554|8|2|3|0\n10.0.0.2|20|10|10|2|1|1|0\n10.0.0.9|1934|1564|370|9|2|0|3\n2001:db8::9|80|0|80|1|1|0|1",
		"SELECT address, bytes FROM %.top_talkers_between(since = now() - 864000, until = now() - 172800)":                                                                                                                         "10.0.0.2|20\n10.0.0.9|20",
		"SELECT server, port, proto, clients, opened, failed, seen_by FROM %.services WHERE port = 53":                                                                                                                             "2001:db8::9|53|17|1|1|1|['web-1']",
		"SELECT src, dst, port, opened FROM %.new_pairs ORDER BY dst":                                                                                                                                                              "10.0.0.1|10.0.0.9|443|2\n10.0.0.1|2001:db8::9|53|1",
		"SELECT count() FROM %.new_pairs_since(since = now() - 864000)":                                                                                                                                                            "3",
		"SELECT src_port, dst, conn_state, src_sent_bytes, dst_sent_bytes, src_tcp_flags, over, records, dateDiff('millisecond', started, ended) FROM %.conversations WHERE src = '10.0.0.1' AND dst_port != 99 ORDER BY src_port": "40001|10.0.0.9|SF|300|1500|19|true|3|15000\n40002|10.0.0.9|REJ|60|54|2|true|1|0\n40003|2001:db8::9|S0|80|0|0|true|1|0",
		"SELECT dst_port, src_sent_packets, drops, drop_reason, over FROM %.conversations WHERE drops > 0 ORDER BY dst_port":                                                                                                       "99|0|4|IP_OUTNOROUTES|false\n443|3|3|NETFILTER_DROP|true",
		"SELECT count() FROM %.services WHERE port = 99":                                                                                                                                                                           "0",
		"SELECT count() FROM %.peers_of(address = '203.0.113.5', since = now() - 3600, until = now() + 60)":                                                                                                                        "0",
		"SELECT count() FROM %.conversations_of(address = '10.0.0.9', since = now() - 864000, until = now() + 60)":                                                                                                                 "4",
		"SELECT peer, side, port, sent_to_peer_bytes, received_from_peer_bytes, opened, failed FROM %.peers_of(address = '10.0.0.9', since = now() - 3600, until = now() + 60) ORDER BY peer":                                      "10.0.0.1|opened by peer|443|1554|360|2|1\n10.0.0.2|opened by peer|443|10|10|1|0",
		"SELECT agent, version, silent_seconds < 120, coverage_percent, seen_packets, overflow_packets, unaccounted_packets, flows, losses, starts FROM %.agents":                                                                  "web-1|v2|1|96|200|8|0|5|{'queue_dropped_batches':5}|2",
		"SELECT agent, boot, missing FROM %.missing_batches":                                                                                                                                                                       "web-1|boot-b|2",
		"SELECT id, severity, summary, evidence_count, incident FROM %.latest_findings":                                                                                                                                            "f-1|high|new|2|i-1",
		"SELECT finding, evidence, metric, value, unit, baseline, query FROM %.findings_evidence":                                                                                                                                  "f-1|ports|ports|1000|ports|3|SELECT 1\nf-1|rate|rate|50.5|1/s|\\N|SELECT 2",
		"SELECT id, status, title, lasted_seconds FROM %.latest_incidents":                                                                                                                                                         "i-1|closed|scan|40",
		"SELECT id, subject, author, markdown FROM %.latest_reports":                                                                                                                                                               "r-1|i-1|template|# A",
		"SELECT report, title, endpoint, state, attempts, http_status FROM %.latest_deliveries":                                                                                                                                    "r-1|A scan|pager|delivered|2|204",
		"SELECT sum(records), sum(connections), sum(unanswered) FROM %.flows_1m":                                                                                                                                                   "6|5|2",
	} {
		if got := strings.ReplaceAll(b.ch.Query(t, fill(query)), "\t", "|"); got != want {
			t.Errorf("%s gives\n%s\nwant\n%s", query, got, want)
		}
	}
}
