-- The data behind the answers of docs/sql.md. now64(3) is one instant for every row; flows, coverage and so on are those of the test's database.
-- web-1 (10.0.0.1) runs nginx in the container c0ffee, which asks for names, talks TLS with api.example and SQL with db-1.
INSERT INTO flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling,
    src_pid, src_process, src_unit, src_container, app, server_name, tls_alpn, tls_ja4, app_latency_us, rtt_us, src_retransmits, dst_zero_windows) VALUES
('web-1', 'eth0', now64(3) - 600, 900, '10.0.0.1', '203.0.113.10', 40001, 443, 6, 'syn', 10, 1000, 20, 20000, 27, 27, 'SF', 0, true, 1, 77, 'nginx', '', 'c0ffee', 'tls', 'api.example', 'h2', 'ja4-common', 20000, 15000, 1, 0),
('web-1', 'eth0', now64(3) - 500, 900, '10.0.0.1', '203.0.113.10', 40002, 443, 6, 'syn', 10, 1000, 20, 20000, 27, 27, 'SF', 0, true, 1, 77, 'nginx', '', 'c0ffee', 'tls', 'api.example', 'h2', 'ja4-common', 30000, 25000, 0, 0),
('db-1', 'eth0', now64(3) - 400, 900, '10.0.0.2', '203.0.113.10', 40003, 443, 6, 'syn', 5, 500, 5, 5000, 27, 27, 'SF', 0, true, 1, 88, 'backup', 'backup.service', '', 'tls', 'api.example', 'h2', 'ja4-common', 10000, 20000, 0, 0),
('web-1', 'eth0', now64(3) - 300, 900, '10.0.0.1', '203.0.113.66', 40004, 4443, 6, 'syn', 8, 800, 8, 800, 27, 27, 'SF', 0, true, 1, 99, 'kworkerd', '', 'c0ffee', 'tls', 'pool.invalid', '', 'ja4-rare', 90000, 80000, 0, 0),
('web-1', 'eth0', now64(3) - 250, 900, '10.0.0.1', '10.0.0.2', 40005, 5432, 6, 'syn', 100, 10000, 100, 400000, 27, 27, 'S1', 0, false, 1, 77, 'nginx', '', 'c0ffee', '', '', '', '', 0, 2000, 10, 3),
('web-1', 'eth0', now64(3) - 200, 900, '10.0.0.1', '10.0.0.2', 40005, 5432, 6, 'syn', 100, 10000, 100, 400000, 24, 24, 'S1', 10800000, false, 1, 77, 'nginx', '', 'c0ffee', '', '', '', '', 0, 40000, 0, 0)

-- step
INSERT INTO flows (agent, interface, start, duration_ms, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, conn_state, age_ms, final, sampling,
    src_pid, src_process, src_container, app, server_name, dns_type, dns_rcode, app_latency_us) VALUES
('web-1', 'eth0', now64(3) - 240, 1, '10.0.0.1', '10.0.0.53', 50001, 53, 17, 'first', 1, 80, 1, 120, 'SF', 0, true, 1, 77, 'nginx', 'c0ffee', 'dns', 'api.example', 'A', 'NOERROR', 1000),
('web-1', 'eth0', now64(3) - 230, 1, '10.0.0.1', '10.0.0.53', 50002, 53, 17, 'first', 1, 80, 1, 90, 'SF', 0, true, 1, 77, 'nginx', 'c0ffee', 'dns', 'typo.example', 'A', 'NXDOMAIN', 2000),
('web-1', 'eth0', now64(3) - 220, 1, '10.0.0.1', '10.0.0.53', 50003, 53, 17, 'first', 1, 80, 1, 90, 'SF', 0, true, 1, 77, 'nginx', 'c0ffee', 'dns', 'broken.example', 'AAAA', 'SERVFAIL', 900000),
('web-1', 'eth0', now64(3) - 210, 1, '10.0.0.1', '10.0.0.53', 50004, 53, 17, 'first', 1, 80, 0, 0, 'S0', 0, true, 1, 77, 'nginx', 'c0ffee', 'dns', 'broken.example', 'AAAA', '', 0)

-- step
-- Strangers ask web-1 over HTTP; the server is haproxy in a unit.
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling,
    dst_pid, dst_process, dst_unit, app, server_name, http_method, http_status, app_latency_us) VALUES
('web-1', 'eth0', now64(3) - 130, '198.51.100.7', '10.0.0.1', 30001, 80, 6, 'syn', 4, 400, 4, 4000, 27, 27, 'SF', 0, true, 1, 11, 'haproxy', 'haproxy.service', 'http', 'shop.example', 'GET', 200, 5000),
('web-1', 'eth0', now64(3) - 120, '198.51.100.7', '10.0.0.1', 30002, 80, 6, 'syn', 4, 400, 4, 400, 27, 27, 'SF', 0, true, 1, 11, 'haproxy', 'haproxy.service', 'http', 'shop.example', 'POST', 503, 7000),
('web-1', 'eth0', now64(3) - 110, '198.51.100.8', '10.0.0.1', 30003, 80, 6, 'syn', 4, 400, 4, 400, 27, 27, 'SF', 0, true, 1, 11, 'haproxy', 'haproxy.service', 'http', 'shop.example', 'POST', 500, 9000)

-- step
-- 198.51.100.66 tries 200 ports of web-1; nobody answers. 10.0.0.3 calls 203.0.113.99 once a minute, thirty times. db-1 sends 5 GB away.
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, src_flags, conn_state, age_ms, final, sampling)
SELECT 'web-1', 'eth0', now64(3) - 90, '198.51.100.66', '10.0.0.1', 61000, 1000 + number, 6, 'syn', 1, 60, 2, 'S0', 0, true, 1 FROM numbers(200)

-- step
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling)
SELECT 'db-1', 'eth0', now64(3) - 30 - 60 * number, '10.0.0.3', '203.0.113.99', 20000 + number, 8443, 6, 'syn', 3, 300, 3, 200, 27, 27, 'SF', 0, true, 1 FROM numbers(30)

-- step
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, vlan, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, icmp_type, icmp_code, age_ms, final, sampling,
    src_pid, src_process, src_unit, tunnel, tunnel_id, src_drops, drop_reason, src_container, dst_container, netns) VALUES
('db-1', 'eth0', now64(3) - 80, '10.0.0.2', '203.0.113.50', 45000, 443, 6, 'syn', 0, 3500000, 5000000000, 1000000, 50000000, 27, 27, 'S1', 0, 0, 0, false, 1, 88, 'backup', 'backup.service', '', 0, 0, '', '', '', ''),
('db-1', 'eth1', now64(3) - 70, '172.16.0.1', '172.16.0.2', 45001, 80, 6, 'syn', 0, 10, 1000, 10, 9000, 27, 27, 'SF', 0, 0, 0, true, 1, 0, '', '', 'vxlan', 42, 0, '', '', '', ''),
('db-1', 'eth1', now64(3) - 60, '172.16.0.3', '172.16.0.2', 45002, 80, 6, 'syn', 0, 10, 500, 10, 500, 27, 27, 'SF', 0, 0, 0, true, 1, 0, '', '', 'vxlan', 43, 0, '', '', '', ''),
('db-1', 'eth1', now64(3) - 50, '10.1.0.1', '10.1.0.2', 45003, 22, 6, 'syn', 100, 10, 700, 10, 300, 27, 27, 'SF', 0, 0, 0, true, 1, 0, '', '', '', 0, 0, '', '', '', ''),
('db-1', 'eth0', now64(3) - 45, '10.0.0.254', '10.0.0.2', 0, 0, 1, 'first', 0, 4, 400, 0, 0, 0, 0, 'OTH', 3, 1, 0, true, 1, 0, '', '', '', 0, 0, '', '', '', ''),
('web-1', 'eth0', now64(3) - 40, '10.0.0.1', '192.0.2.9', 45004, 25, 6, 'syn', 0, 3, 180, 0, 0, 2, 0, 'S0', 0, 0, 0, true, 1, 78, 'postfix', 'postfix.service', '', 0, 3, 'NETFILTER_DROP', '', '', ''),
('web-1', 'veth1', now64(3) - 35, '10.88.0.2', '10.88.0.3', 45005, 6379, 6, 'syn', 0, 20, 2000, 20, 8000, 27, 27, 'SF', 0, 0, 0, true, 1, 77, 'nginx', '', '', 0, 0, '', 'c0ffee', 'badcafe', 'web')

-- step
-- Hours ago 10.0.0.3 called once; yesterday db-1 was asked on another port too.
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, src_flags, dst_flags, conn_state, age_ms, final, sampling) VALUES
('db-1', 'eth0', now64(3) - 19800, '10.0.0.3', '203.0.113.99', 20100, 8443, 6, 'syn', 3, 300, 3, 200, 27, 27, 'SF', 0, true, 1),
('db-1', 'eth0', now64(3) - 93600, '10.0.0.1', '10.0.0.2', 40009, 5432, 6, 'syn', 10, 5000, 10, 100000, 27, 27, 'SF', 0, true, 1),
('db-1', 'eth0', now64(3) - 97200, '10.0.0.4', '10.0.0.2', 40010, 3306, 6, 'syn', 10, 1000, 10, 70000, 27, 27, 'SF', 0, true, 1)

-- step
INSERT INTO coverage (time, received, agent, agent_version, boot, sequence, interval_ms, flows, interface, direction, seen_packets, seen_bytes, recorded_packets, recorded_bytes, overflow_packets, overflow_bytes, other_packets, other_bytes, skipped_packets, skipped_bytes, reasons, losses) VALUES
(now64(3) - 60, now64(3) - 59, 'web-1', 'v2', 'boot-a', 1, 5000, 9, 'eth0', 'ingress', 1000, 100000, 900, 90000, 80, 8000, 20, 2000, 0, 0, {'not_ip': 15, 'truncated': 5}, {}),
(now64(3) - 60, now64(3) - 59, 'web-1', 'v2', 'boot-a', 1, 5000, 0, 'eth0', 'egress', 500, 40000, 500, 40000, 0, 0, 0, 0, 0, 0, {}, {}),
(now64(3) - 50, now64(3) - 49, 'web-1', 'v2', 'boot-a', 4, 5000, 9, 'eth0', 'ingress', 100, 10000, 100, 10000, 0, 0, 0, 0, 0, 0, {}, {'queue_dropped_batches': 2}),
(now64(3) - 40, now64(3) - 39, 'db-1', 'v2', 'boot-b', 1, 5000, 9, 'eth0', 'ingress', 4000, 400000, 1000, 100000, 0, 0, 0, 0, 3000, 300000, {}, {}),
(now64(3) - 1800, now64(3) - 1799, 'edge-1', 'v1', 'boot-c', 7, 5000, 1, 'wan0', 'ingress', 10, 1000, 10, 1000, 0, 0, 0, 0, 0, 0, {}, {})

-- step
INSERT INTO flows (agent, interface, start, src_ip, dst_ip, src_port, dst_port, proto, initiator, src_packets, src_bytes, dst_packets, dst_bytes, conn_state, age_ms, final, sampling)
SELECT 'db-1', 'eth0', now64(3) - 40, '10.0.0.2', '10.0.0.123', 123, 123, 17, 'first', 4, 400, 4, 400, 'SF', 0, true, 4

-- step
INSERT INTO sources (time, received, agent, addr, others, interval_ms, flows, targets, overflow_packets, overflow_bytes) VALUES
(now64(3) - 90, now64(3), 'web-1', '198.51.100.66', false, 3000, 100, 100, 30, 1800),
(now64(3) - 89, now64(3), 'web-1', '198.51.100.66', false, 4000, 280, 200, 80, 4800),
(now64(3) - 89, now64(3), 'web-1', '198.51.100.7', false, 4000, 2, 1, 0, 0)

-- step
INSERT INTO features (time, received, agent, interface, direction, interval_ms, seen_packets, seen_bytes, syn_packets, syn_ack_packets, rst_packets, new_flows, overflow_packets, sizes, gaps) VALUES
(now64(3) - 90, now64(3), 'web-1', 'eth0', 'ingress', 1000, 250, 15000, 201, 0, 0, 201, 80, [], []),
(now64(3) - 89, now64(3), 'web-1', 'eth0', 'ingress', 1000, 20, 9000, 2, 2, 0, 2, 0, [], [])

-- step
INSERT INTO findings (id, version, detector, kind, src, dst, port, host, window_start, window_end, score, p_value, severity, summary, evidence.id, evidence.metric, evidence.value, evidence.unit, evidence.baseline, evidence.query, incident) VALUES
('f-1', 1, 'scan', 'port_scan', '198.51.100.66', '10.0.0.1', 0, 'web-1', now64(3) - 95, now64(3) - 85, 0.5, 1, 'medium', 'first look', ['ports'], ['ports'], [100], ['ports'], [NULL], ['SELECT 1'], 'i-1'),
('f-1', 2, 'scan', 'port_scan', '198.51.100.66', '10.0.0.1', 0, 'web-1', now64(3) - 95, now64(3) - 85, 0.9, 1, 'high', '198.51.100.66 tried 200 ports', ['ports', 'unanswered'], ['ports', 'unanswered'], [200, 200], ['ports', 'connections'], [1, NULL], ['SELECT 1', 'SELECT 2'], 'i-1')

-- step
INSERT INTO incidents (id, version, status, severity, title, kinds, entities, findings, started, ended, opened) VALUES
('i-1', 1, 'open', 'high', 'Port scan by 198.51.100.66', ['port_scan'], ['198.51.100.66', '10.0.0.1'], 1, now64(3) - 95, now64(3) - 85, now64(3) - 84),
('i-0', 1, 'closed', 'low', 'Beacon of 10.0.0.9', ['beacon'], ['10.0.0.9'], 1, now64(3) - 9000, now64(3) - 8000, now64(3) - 8500)

-- step
INSERT INTO reports (id, version, kind, subject, window_start, window_end, severity, title, author, note, markdown, html, json, created) VALUES
('r-1', 1, 'incident', 'i-1', now64(3) - 95, now64(3) - 85, 'high', 'Port scan by 198.51.100.66', 'template', '', '# Port scan', '', '{}', now64(3) - 80)

-- step
INSERT INTO deliveries (report, endpoint, version, state, attempts, http_status, error, next_attempt, updated) VALUES
('r-1', 'pager', 1, 'retrying', 1, 500, 'status 500', now64(3) - 70, now64(3) - 75), ('r-1', 'pager', 2, 'failed', 10, 500, 'status 500', now64(3), now64(3) - 60),
('r-1', 'chat', 1, 'delivered', 1, 204, '', now64(3), now64(3) - 75)

-- step
-- What the collector would have known: three networks and three countries, each with a system of its own; tags of web-1's and db-1's addresses and of both agents.
ALTER TABLE flows UPDATE
    src_country = multiIf(startsWith(toString(src_ip), '::ffff:203.0.113.'), 'US', startsWith(toString(src_ip), '::ffff:198.51.100.'), 'BR', startsWith(toString(src_ip), '::ffff:192.0.2.'), 'DE', ''),
    src_asn = multiIf(startsWith(toString(src_ip), '::ffff:203.0.113.'), 64500, startsWith(toString(src_ip), '::ffff:198.51.100.'), 64501, startsWith(toString(src_ip), '::ffff:192.0.2.'), 64502, 0),
    src_network = multiIf(src_ip = toIPv6('10.0.0.2'), 'databases', startsWith(toString(src_ip), '::ffff:10.0.0.'), 'servers', startsWith(toString(src_ip), '::ffff:172.16.0.'), 'lab', ''),
    src_tags = multiIf(src_ip = toIPv6('10.0.0.1'), 'role=web site=berlin', src_ip = toIPv6('10.0.0.2'), 'role=db site=berlin', ''),
    dst_country = multiIf(startsWith(toString(dst_ip), '::ffff:203.0.113.'), 'US', startsWith(toString(dst_ip), '::ffff:198.51.100.'), 'BR', startsWith(toString(dst_ip), '::ffff:192.0.2.'), 'DE', ''),
    dst_asn = multiIf(startsWith(toString(dst_ip), '::ffff:203.0.113.'), 64500, startsWith(toString(dst_ip), '::ffff:198.51.100.'), 64501, startsWith(toString(dst_ip), '::ffff:192.0.2.'), 64502, 0),
    dst_network = multiIf(dst_ip = toIPv6('10.0.0.2'), 'databases', startsWith(toString(dst_ip), '::ffff:10.0.0.'), 'servers', startsWith(toString(dst_ip), '::ffff:172.16.0.'), 'lab', ''),
    dst_tags = multiIf(dst_ip = toIPv6('10.0.0.1'), 'role=web site=berlin', dst_ip = toIPv6('10.0.0.2'), 'role=db site=berlin', ''),
    agent_tags = multiIf(agent = 'web-1', 'env=prod role=web', agent = 'db-1', 'env=test', '')
WHERE 1 SETTINGS mutations_sync = 2

-- step
INSERT INTO as_names (asn, name, updated) VALUES (64500, 'Cloud before it was sold', now64(3) - 1000), (64500, 'Example Cloud', now64(3)), (64501, 'Example Telecom', now64(3))
