package schema_test

import (
	"strings"
	"testing"
	"time"
)

// The data behind these answers: nginx in a container of web-1 opens two
// conversations to api.example:443, of which one goes badly and takes two
// records, and looks the name up twice; postgres on web-1 serves 10.0.0.7; an old
// agent's record has nothing but addresses.
const attributeFlows = `INSERT INTO %.flows (agent, interface, interfaces, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling,
    src_pid, src_process, src_unit, src_container, dst_pid, dst_process, dst_unit, app, server_name, dns_type, dns_rcode, app_latency_us, tls_alpn, tls_ja4, handshake_us, rtt_us, src_retransmits, dst_retransmits, src_zero_windows, dst_resets, src_drops, drop_reason) VALUES
('web-1', 'eth0', 'veth0 eth0', now64(3) - 30, 1000, '10.0.0.1', '10.0.0.9', 40001, 443, 6, 'syn', 90, 9000, 10, 1000, 2, 18, 'S1', 0, false, 1, 77, 'nginx', '', 'c0ffee', 0, '', '', 'tls', 'API.example', '', '', 20000, 'h2', 'ja4-a', 3000, 4000, 9, 1, 2, 0, 3, 'NETFILTER_DROP'),
('web-1', 'eth0', 'veth0 eth0', now64(3) - 20, 500, '10.0.0.1', '10.0.0.9', 40001, 443, 6, 'syn', 10, 1000, 10, 500, 17, 17, 'SF', 5000, true, 1, 77, 'nginx', '', 'c0ffee', 0, '', '', '', '', '', '', 0, '', '', 0, 6000, 1, 0, 0, 0, 1, 'NETFILTER_DROP'),
('web-1', 'eth0', 'eth0', now64(3) - 10, 0, '10.0.0.1', '10.0.0.9', 40002, 443, 6, 'syn', 1, 60, 1, 54, 2, 20, 'REJ', 0, true, 1, 78, 'nginx', '', 'c0ffee', 0, '', '', '', '', '', '', 0, '', '', 0, 0, 0, 0, 0, 1, 0, ''),
('web-1', 'eth0', 'eth0', now64(3) - 9, 0, '10.0.0.1', '10.0.0.53', 40003, 53, 17, 'first', 1, 80, 1, 90, 0, 0, 'SF', 0, true, 1, 77, 'nginx', '', 'c0ffee', 0, '', '', 'dns', 'api.example', 'A', 'NOERROR', 1000, '', '', 0, 0, 0, 0, 0, 0, 0, ''),
('web-1', 'eth0', 'eth0', now64(3) - 8, 0, '10.0.0.1', '10.0.0.53', 40004, 53, 17, 'first', 1, 80, 1, 90, 0, 0, 'SF', 0, true, 1, 77, 'nginx', '', 'c0ffee', 0, '', '', 'dns', 'api.example', 'A', 'NXDOMAIN', 3000, '', '', 0, 0, 0, 0, 0, 0, 0, ''),
('web-1', 'eth0', 'eth0', now64(3) - 7, 0, '10.0.0.7', '10.0.0.1', 40005, 5432, 6, 'syn', 1, 70, 1, 700, 27, 27, 'SF', 0, true, 1, 0, '', '', '', 55, 'postgres', 'postgresql.service', '', '', '', '', 0, '', '', 0, 0, 0, 0, 0, 0, 0, ''),
('old', 'eth0', '', now64(3) - 6, 0, '10.0.0.8', '10.0.0.1', 40006, 80, 17, 'first', 1, 70, 1, 700, 0, 0, 'SF', 0, true, 1, 0, '', '', '', 0, '', '', '', '', '', '', 0, '', '', 0, 0, 0, 0, 0, 0, 0, '')`

// A drain of a sampling agent, one of another, and between them a batch of early warnings, which proves nothing.
const attributeCoverage = `INSERT INTO %.coverage (time, received, agent, agent_version, boot, sequence, interval_ms, flows, interface, direction, seen_packets, recorded_packets, overflow_packets, other_packets, skipped_packets, reasons, losses) VALUES
(now64(3) - 60, now64(3), 'web-1', 'v1', 'boot-a', 1, 5000, 3, 'eth0', 'ingress', 1000, 72, 20, 8, 900, {'not_ip': 5, 'truncated': 2}, {'queue_dropped_batches': 4}),
(now64(3) - 60, now64(3), 'web-1', 'v1', 'boot-a', 1, 5000, 0, 'eth1', 'ingress', 1000, 995, 0, 5, 0, {'not_ip': 5}, {'queue_dropped_batches': 4}),
(now64(3) - 50, now64(3), 'web-1', '', 'boot-a', 2, 0, 0, '', 'ingress', 0, 0, 0, 0, 0, {}, {}),
(now64(3) - 50, now64(3), 'warns', 'v1', 'boot-b', 1, 0, 0, '', 'ingress', 0, 0, 0, 0, 0, {}, {})`

// The runs of three agents. The one was killed, started again, ended in order with a
// batch of two attach points, and was started again; the other lacks a batch of a run
// that ended; of the third a run is known by its early warnings alone.
const runsCoverage = `INSERT INTO %.coverage (time, received, agent, agent_version, boot, sequence, last_of_run, interval_ms, interface) VALUES
(now64(3) - 900, now64(3), 'restarts', 'v1', 'boot-1', 1, false, 5000, 'eth0'),
(now64(3) - 895, now64(3), 'restarts', 'v1', 'boot-1', 2, false, 5000, 'eth0'),
(now64(3) - 894, now64(3), 'restarts', '', 'boot-1', 3, false, 0, ''),
(now64(3) - 880, now64(3), 'restarts', 'v1', 'boot-2', 1, false, 5000, 'eth0'),
(now64(3) - 878, now64(3), 'restarts', 'v1', 'boot-2', 2, true, 2000, 'eth0'),
(now64(3) - 878, now64(3), 'restarts', 'v1', 'boot-2', 2, true, 2000, 'eth1'),
(now64(3) - 870, now64(3), 'restarts', 'v2', 'boot-3', 1, false, 5000, 'eth0'),
(now64(3) - 800, now64(3), 'gap', 'v1', 'boot-4', 1, false, 5000, 'eth0'),
(now64(3) - 790, now64(3), 'gap', 'v1', 'boot-4', 3, true, 5000, 'eth0'),
(now64(3) - 700, now64(3), 'young', '', 'boot-5', 1, false, 0, '')`

const attributeWarnings = `INSERT INTO %.features (time, received, agent, interface, direction, interval_ms, seen_packets, seen_bytes, syn_packets, syn_ack_packets, rst_packets, new_flows, overflow_packets, sizes, gaps) VALUES
(now64(3) - 2, now64(3), 'web-1', 'eth0', 'ingress', 1000, 100, 6000, 90, 1, 2, 80, 10, [0, 100], []),
(now64(3) - 2, now64(3), 'web-1', 'eth0', 'egress', 500, 50, 3000, 0, 5, 3, 1, 0, [], []),
(now64(3) - 1, now64(3), 'web-1', 'eth0', 'ingress', 999, 1, 60, 0, 0, 0, 0, 0, [], [])`

const attributeSources = `INSERT INTO %.sources (time, received, agent, addr, others, interval_ms, flows, targets, overflow_packets, overflow_bytes) VALUES
(now64(3) - 2, now64(3), 'web-1', '192.0.2.7', false, 3000, 30, 20, 4, 240),
(now64(3) - 2, now64(3), 'web-1', '::', true, 3000, 9, 5, 0, 0),
(now64(3) - 2, now64(3), 'web-1', '2001:db8::7', false, 3000, 40, 30, 0, 0),
(now64(3) - 1, now64(3), 'web-1', '192.0.2.7', false, 4000, 70, 60, 9, 540)`

func attributeAnswers(t *testing.T, b *bed) {
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := "toDateTime64('" + time.Now().UTC().Format(time.DateTime) + "', 3, 'UTC')" // one instant for every row
	fill := func(query string) string {
		return strings.NewReplacer("%", b.conn.Database, "now64(3)", base).Replace(query)
	}
	for _, statement := range []string{attributeFlows, attributeCoverage, runsCoverage, attributeWarnings, attributeSources} {
		b.ch.Query(t, fill(statement))
	}
	for query, want := range map[string]string{
		"SELECT src_port, app, server_name, src_process, src_container, dst_process, dst_unit, handshake_ms, rtt_ms, retransmits, drops, drop_reason, interfaces, conn_state, over FROM %.conversations WHERE agent = 'web-1' AND proto = 6 ORDER BY src_port": "40001|tls|API.example|nginx|c0ffee|||3|6|11|4|NETFILTER_DROP|veth0 eth0|SF|true\n" +
			"40002|||nginx|c0ffee|||0|0|0|0||eth0|REJ|true\n40005|||||postgres|postgresql.service|0|0|0|0||eth0|SF|true",
		"SELECT src_process, server_name FROM %.conversations_of(address = '10.0.0.53', since = now() - 600, until = now() + 60) ORDER BY src_port":                                                                "nginx|api.example\nnginx|api.example",
		"SELECT agent, process, unit, container, role, sent_bytes, received_bytes, connections, failed, peers, processes, names, retransmits, drops FROM %.processes ORDER BY role":                                "web-1|nginx||c0ffee|client|10220|1734|4|1|2|2|['api.example','API.example']|10|4\nweb-1|postgres|postgresql.service||server|700|70|1|0|1|1|[]|0|0",
		"SELECT process FROM %.processes_between(since = now() - 864000, until = now() - 86400)":                                                                                                                   "",
		"SELECT process FROM %.processes_between(since = now() - 3600, until = now() + 60) ORDER BY process":                                                                                                       "nginx\npostgres",
		"SELECT name, type, questions, answered, no_such_name, errors, unanswered, clients, median_ms FROM %.lookups":                                                                                              "api.example|A|2|1|1|0|0|1|2",
		"SELECT app, src, src_process, dst, dst_port, dns_rcode, conversations, seen_by FROM %.lookups_of(name = 'EXAMPLE', since = now() - 600, until = now() + 60) ORDER BY app, dns_rcode":                      "dns|10.0.0.1|nginx|10.0.0.53|53|NOERROR|1|['web-1']\ndns|10.0.0.1|nginx|10.0.0.53|53|NXDOMAIN|1|['web-1']\ntls|10.0.0.1|nginx|10.0.0.9|443||1|['web-1']",
		"SELECT count() FROM %.lookups_of(name = 'ample', since = now() - 600, until = now() + 60)":                                                                                                                "0",
		"SELECT name, port, app, conversations, clients, servers, alpn, fingerprints, top_fingerprints, median_ms FROM %.tls_servers":                                                                              "API.example|443|tls|1|1|1|['h2']|1|['ja4-a']|20",
		"SELECT src, dst, packets, src_retransmit_percent, dst_retransmit_percent, median_handshake_ms, median_rtt_ms, src_zero_windows, dst_zero_windows, resets, drops, seen_by FROM %.path_health ORDER BY src": "10.0.0.1|10.0.0.9|122|9.901|4.762|3|5|2|0|1|{'NETFILTER_DROP':4}|1\n10.0.0.7|10.0.0.1|2|0|0|\\N|\\N|0|0|0|{}|1",
		"SELECT packets_per_second, bytes_per_second, syn_packets, syn_ack_packets, rst_packets, new_flows, overflow_packets, top_sources FROM %.early_warnings ORDER BY time":                                     "200|12000|90|6|5|81|10|[('2001:db8::7',30),('192.0.2.7',20),('all others',5)]\n1|60|0|0|0|0|0|[('192.0.2.7',60)]",
		"SELECT source, targets, new_flows, overflow_packets, overflow_bytes FROM %.top_sources":                                                                                                                   "192.0.2.7|60|70|9|540\n2001:db8::7|30|40|0|0\nall others|5|9|0|0",
		"SELECT agent, reason, unrecorded_packets, percent_of_seen FROM %.unrecorded ORDER BY unrecorded_packets DESC, reason":                                                                                     "web-1|left out by sampling|900|45\nweb-1|no room in the flow map|20|1\nweb-1|not_ip|10|0.5\nweb-1|truncated|2|0.1\nweb-1|other|1|0.05",
		"SELECT agent, version, silent_seconds BETWEEN 59 AND 120, coverage_percent, seen_packets, overflow_packets, skipped_packets, unaccounted_packets, flows, losses FROM %.agents WHERE agent = 'web-1'":      "web-1|v1|1|98.182|2000|20|900|0|3|{'queue_dropped_batches':4}",
		"SELECT agent, boot, missing FROM %.missing_batches": "gap|boot-4|1",
		"SELECT agent, version, boot, state, missing_batches, unwatched_seconds, last_drain - began FROM %.agent_runs WHERE agent IN ('restarts', 'gap', 'young') ORDER BY boot": "restarts|v1|boot-1|broken off|0|\\N|10\n" +
			"restarts|v1|boot-2|ended|0|10|7\nrestarts|v2|boot-3|running|0|3|5\ngap|v1|boot-4|ended|1|\\N|15",
	} {
		if got := strings.ReplaceAll(b.ch.Query(t, fill(query)), "\t", "|"); got != want {
			t.Errorf("%s gives\n%s\nwant\n%s", query, got, want)
		}
	}
}
