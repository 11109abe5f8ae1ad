-- Views that show what 0004 brought: conversations, who talks, what for, how well, and what comes before the flow records.
-- Views without parameters look at the last hour unless they say otherwise; times are UTC. They repeat their siblings with
-- parameters: ClickHouse does not qualify a parameterized view inside a view, so that it is found from its own database only.

CREATE OR REPLACE VIEW agents AS
SELECT
    c.agent AS agent,
    argMaxIf(c.agent_version, c.time, c.drain) AS version,
    maxIf(c.time, c.drain) AS last_heartbeat,
    dateDiff('second', last_heartbeat, now64(3)) AS silent_seconds,
    round(100 * sumIf(c.recorded_packets + c.other_packets, c.recent) / nullIf(sumIf(c.seen_packets - c.skipped_packets, c.recent), 0), 3) AS coverage_percent,
    sumIf(c.seen_packets, c.recent) AS seen_packets,
    sumIf(c.overflow_packets, c.recent) AS overflow_packets,
    sumIf(c.skipped_packets, c.recent) AS skipped_packets,
    toInt64(sumIf(c.seen_packets, c.recent)) - sumIf(c.recorded_packets + c.overflow_packets + c.other_packets + c.skipped_packets, c.recent) AS unaccounted_packets,
    sumIf(c.flows, c.recent) AS flows,
    argMaxIf(c.losses, c.time, c.drain) AS losses,
    uniqExact(c.boot) AS starts
FROM (SELECT *, time >= now() - INTERVAL 15 MINUTE AS recent, interval_ms > 0 AS drain FROM coverage WHERE time >= now() - INTERVAL 1 DAY) AS c
GROUP BY c.agent
HAVING countIf(c.drain) > 0
ORDER BY agent
COMMENT 'Each agent that was heard in the last day: its last heartbeat (end of a drain), and over the last 15 minutes the share of packets that stand in flow records or are not IP (coverage_percent, empty without traffic; where packets are sampled, of those taken), what overflowed, and what sampling skipped; unaccounted_packets must be 0. losses are counters since its start; starts counts its runs in the day.'

-- step
CREATE OR REPLACE VIEW conversations AS
SELECT
    min(f.start) AS started,
    max(f.end) AS ended,
    f.agent AS agent,
    f.src AS src,
    f.src_port AS src_port,
    f.dst AS dst,
    f.dst_port AS dst_port,
    f.proto AS proto,
    argMax(f.conn_state, f.start) AS conn_state,
    argMax(f.initiator, f.start) AS initiator,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    sum(f.src_packets) AS src_sent_packets,
    sum(f.dst_packets) AS dst_sent_packets,
    groupBitOr(f.src_flags) AS src_tcp_flags,
    groupBitOr(f.dst_flags) AS dst_tcp_flags,
    max(f.final) AS over,
    count() AS records,
    max(f.app) AS app,
    max(f.server_name) AS server_name,
    max(f.src_process) AS src_process,
    max(f.src_unit) AS src_unit,
    max(f.src_container) AS src_container,
    max(f.dst_process) AS dst_process,
    max(f.dst_unit) AS dst_unit,
    max(f.dst_container) AS dst_container,
    max(f.handshake_us) / 1000 AS handshake_ms,
    argMaxIf(f.rtt_us, f.start, f.rtt_us > 0) / 1000 AS rtt_ms,
    sum(f.src_retransmits) + sum(f.dst_retransmits) AS retransmits,
    sum(f.src_drops) + sum(f.dst_drops) AS drops,
    max(f.drop_reason) AS drop_reason,
    max(f.interfaces) AS interfaces,
    max(f.netns) AS netns,
    max(f.tunnel) AS tunnel,
    max(f.tunnel_id) AS tunnel_id
FROM flows AS f
WHERE f.start >= now() - INTERVAL 1 HOUR
GROUP BY f.agent, f.src_ip, f.src, f.src_port, f.dst_ip, f.dst, f.dst_port, f.proto
ORDER BY started DESC
COMMENT 'Conversations of the last hour, newest first: the records of one agent, both addresses, ports and protocol summed. over is 1 once the agent saw the end; a tuple that was used twice within the hour is one row. Processes, units and containers are known for sockets of the agent''s host; rtt_ms is the last known, 0 if none is. Packets that the host dropped before any interface saw them are in drops only.'

-- step
CREATE OR REPLACE VIEW conversations_of AS
SELECT
    min(f.start) AS started,
    max(f.end) AS ended,
    f.agent AS agent,
    f.src AS src,
    f.src_port AS src_port,
    f.dst AS dst,
    f.dst_port AS dst_port,
    f.proto AS proto,
    argMax(f.conn_state, f.start) AS conn_state,
    argMax(f.initiator, f.start) AS initiator,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    sum(f.src_packets) AS src_sent_packets,
    sum(f.dst_packets) AS dst_sent_packets,
    groupBitOr(f.src_flags) AS src_tcp_flags,
    groupBitOr(f.dst_flags) AS dst_tcp_flags,
    max(f.final) AS over,
    count() AS records,
    max(f.app) AS app,
    max(f.server_name) AS server_name,
    max(f.src_process) AS src_process,
    max(f.src_unit) AS src_unit,
    max(f.src_container) AS src_container,
    max(f.dst_process) AS dst_process,
    max(f.dst_unit) AS dst_unit,
    max(f.dst_container) AS dst_container,
    max(f.handshake_us) / 1000 AS handshake_ms,
    argMaxIf(f.rtt_us, f.start, f.rtt_us > 0) / 1000 AS rtt_ms,
    sum(f.src_retransmits) + sum(f.dst_retransmits) AS retransmits,
    sum(f.src_drops) + sum(f.dst_drops) AS drops,
    max(f.drop_reason) AS drop_reason,
    max(f.interfaces) AS interfaces,
    max(f.netns) AS netns,
    max(f.tunnel) AS tunnel,
    max(f.tunnel_id) AS tunnel_id
FROM flows AS f
WHERE f.start >= {since:DateTime('UTC')} AND f.start < {until:DateTime('UTC')}
    AND (f.src_ip = toIPv6({address:String}) OR f.dst_ip = toIPv6({address:String}))
GROUP BY f.agent, f.src_ip, f.src, f.src_port, f.dst_ip, f.dst, f.dst_port, f.proto
ORDER BY started DESC
COMMENT 'As conversations, with address on either side, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW processes AS
SELECT
    agent,
    process,
    unit,
    container,
    role,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    countIf(first) AS connections,
    countIf(first AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    uniq(peer) AS peers,
    uniqExact(pid) AS processes,
    topKIf(3)(server_name, role = 'client' AND server_name != '') AS names,
    sum(resent) AS retransmits,
    sum(lost) AS drops
FROM
(
    SELECT agent, src_process AS process, src_unit AS unit, src_container AS container, 'client' AS role, src_pid AS pid, dst_ip AS peer,
        src_bytes AS sent, dst_bytes AS received, age_ms = 0 AS first, conn_state, server_name, src_retransmits AS resent, src_drops AS lost
    FROM flows WHERE start >= now() - INTERVAL 1 HOUR AND src_pid > 0
    UNION ALL
    SELECT agent, dst_process, dst_unit, dst_container, 'server', dst_pid, src_ip,
        dst_bytes, src_bytes, age_ms = 0, conn_state, server_name, dst_retransmits, dst_drops
    FROM flows WHERE start >= now() - INTERVAL 1 HOUR AND dst_pid > 0
)
GROUP BY agent, process, unit, container, role
ORDER BY sent_bytes + received_bytes DESC
COMMENT 'What each program of each host sent and received in the last hour, most first: one row per process name, systemd unit, container and role (client: it opened the connections). Failed connections got no useful answer; names are the three servers asked for most. Traffic without a known process is not here.'

-- step
CREATE OR REPLACE VIEW processes_between AS
SELECT
    agent,
    process,
    unit,
    container,
    role,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    countIf(first) AS connections,
    countIf(first AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    uniq(peer) AS peers,
    uniqExact(pid) AS processes,
    topKIf(3)(server_name, role = 'client' AND server_name != '') AS names,
    sum(resent) AS retransmits,
    sum(lost) AS drops
FROM
(
    SELECT agent, src_process AS process, src_unit AS unit, src_container AS container, 'client' AS role, src_pid AS pid, dst_ip AS peer,
        src_bytes AS sent, dst_bytes AS received, age_ms = 0 AS first, conn_state, server_name, src_retransmits AS resent, src_drops AS lost
    FROM flows WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND src_pid > 0
    UNION ALL
    SELECT agent, dst_process, dst_unit, dst_container, 'server', dst_pid, src_ip,
        dst_bytes, src_bytes, age_ms = 0, conn_state, server_name, dst_retransmits, dst_drops
    FROM flows WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND dst_pid > 0
)
GROUP BY agent, process, unit, container, role
ORDER BY sent_bytes + received_bytes DESC
COMMENT 'As processes, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW lookups AS
SELECT
    server_name AS name,
    dns_type AS type,
    count() AS questions,
    countIf(dns_rcode = 'NOERROR') AS answered,
    countIf(dns_rcode = 'NXDOMAIN') AS no_such_name,
    countIf(dns_rcode NOT IN ('', 'NOERROR', 'NXDOMAIN')) AS errors,
    countIf(dns_rcode = '') AS unanswered,
    uniq(src_ip) AS clients,
    round(quantileOrNullIf(0.5)(app_latency_us, app_latency_us > 0) / 1000, 3) AS median_ms,
    round(quantileOrNullIf(0.95)(app_latency_us, app_latency_us > 0) / 1000, 3) AS p95_ms,
    min(start) AS first_seen,
    max(start) AS last_seen
FROM flows
WHERE start >= now() - INTERVAL 1 HOUR AND app = 'dns' AND server_name != ''
GROUP BY name, type
ORDER BY questions DESC
COMMENT 'DNS names that were asked for in the last hour, most first, with how they were answered and how long that took. One conversation shows one question, its first; several agents that see the same question each count it.'

-- step
CREATE OR REPLACE VIEW lookups_of AS
SELECT
    min(start) AS first_seen,
    max(start) AS last_seen,
    app,
    src,
    src_process,
    src_unit,
    src_container,
    dst,
    dst_port,
    dns_type,
    dns_rcode,
    count() AS conversations,
    groupUniqArray(10)(agent) AS seen_by
FROM flows
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')}
    AND (lower(server_name) = lower({name:String}) OR endsWith(lower(server_name), concat('.', lower({name:String}))))
GROUP BY app, src_ip, src, src_process, src_unit, src_container, dst_ip, dst, dst_port, dns_type, dns_rcode
ORDER BY first_seen DESC
COMMENT 'Who asked for name or a name below it from since to until (UTC), by DNS, TLS, HTTP or QUIC: client with its process where known, and server.'

-- step
CREATE OR REPLACE VIEW tls_servers AS
SELECT
    server_name AS name,
    dst_port AS port,
    app,
    count() AS conversations,
    uniq(src_ip) AS clients,
    uniq(dst_ip) AS servers,
    groupUniqArray(5)(tls_alpn) AS alpn,
    uniq(tls_ja4) AS fingerprints,
    topK(3)(tls_ja4) AS top_fingerprints,
    round(quantileOrNullIf(0.5)(app_latency_us, app_latency_us > 0) / 1000, 3) AS median_ms,
    round(quantileOrNullIf(0.95)(app_latency_us, app_latency_us > 0) / 1000, 3) AS p95_ms
FROM flows
WHERE start >= now() - INTERVAL 1 HOUR AND app IN ('tls', 'quic')
GROUP BY name, port, app
ORDER BY conversations DESC
COMMENT 'TLS and QUIC servers of the last hour by the name that clients asked for (empty: none), with JA4 fingerprints of the clients and the time from ClientHello to the first answer.'

-- step
CREATE OR REPLACE VIEW path_health AS
SELECT
    src,
    dst,
    sum(p.packets) AS packets,
    round(100 * sum(p.src_retransmits) / nullIf(sum(p.src_packets), 0), 3) AS src_retransmit_percent,
    round(100 * sum(p.dst_retransmits) / nullIf(sum(p.dst_packets), 0), 3) AS dst_retransmit_percent,
    round(quantileOrNullIf(0.5)(p.handshake_us, p.handshake_us > 0) / 1000, 3) AS median_handshake_ms,
    round(quantileOrNullIf(0.5)(p.rtt_us, p.rtt_us > 0) / 1000, 3) AS median_rtt_ms,
    round(quantileOrNullIf(0.95)(p.rtt_us, p.rtt_us > 0) / 1000, 3) AS p95_rtt_ms,
    sum(p.src_zero_windows) AS src_zero_windows,
    sum(p.dst_zero_windows) AS dst_zero_windows,
    sum(p.src_resets + p.dst_resets) AS resets,
    sumMap(if(p.drop_reason = '', map(), map(toString(p.drop_reason), toUInt64(p.src_drops + p.dst_drops)))) AS drops,
    uniqExact(p.agent) AS seen_by
FROM flows AS p
WHERE p.start >= now() - INTERVAL 1 HOUR AND p.proto = 6
GROUP BY p.src_ip, p.dst_ip, src, dst
ORDER BY sum(p.src_retransmits) + sum(p.dst_retransmits) DESC
COMMENT 'How well TCP went between two addresses in the last hour, most retransmits first: share of packets that were sent again, round-trip times (empty if unknown), closed receive windows, resets, and packets that a kernel dropped by its most frequent reason in each record. A pair that several agents see is summed over them.'

-- step
CREATE OR REPLACE VIEW early_warnings AS
SELECT
    f.time AS time,
    f.agent AS agent,
    round(sum(f.seen_packets * 1000 / f.length)) AS packets_per_second,
    round(sum(f.seen_bytes * 1000 / f.length)) AS bytes_per_second,
    sum(f.syn_packets) AS syn_packets,
    sum(f.syn_ack_packets) AS syn_ack_packets,
    sum(f.rst_packets) AS rst_packets,
    sum(f.new_flows) AS new_flows,
    sum(f.overflow_packets) AS overflow_packets,
    any(s.top) AS top_sources
FROM (SELECT *, greatest(interval_ms, 1) AS length FROM features WHERE time >= now() - INTERVAL 15 MINUTE) AS f
LEFT JOIN
(
    SELECT time, agent, arraySlice(arrayReverseSort(x -> x.2, groupArray((if(others, 'all others', src), targets))), 1, 3) AS top
    FROM sources
    WHERE time >= now() - INTERVAL 15 MINUTE
    GROUP BY time, agent
) AS s ON s.time = f.time AND s.agent = f.agent
GROUP BY f.time, f.agent
ORDER BY time DESC, agent
COMMENT 'Each agent''s seconds of the last 15 minutes, newest first, before the flow records come: connections tried (syn_packets) against accepted (syn_ack_packets), new entries of the flow map and packets without room there, over all attach points; top_sources are the three senders with the most distinct targets in the drain interval so far, with that number. A packet that passes two attach points counts at both.'

-- step
CREATE OR REPLACE VIEW top_sources AS
SELECT
    if(s.others, 'all others', s.src) AS source,
    s.agent AS agent,
    max(s.targets) AS targets,
    max(s.flows) AS new_flows,
    max(s.overflow_packets) AS overflow_packets,
    max(s.overflow_bytes) AS overflow_bytes,
    argMax(s.time, s.targets) AS busiest,
    min(s.time) AS first_seen,
    max(s.time) AS last_seen
FROM sources AS s
WHERE s.time >= now() - INTERVAL 1 HOUR
GROUP BY source, s.agent
ORDER BY targets DESC
COMMENT 'Senders of the last hour by the distinct targets (address, protocol, port) that they tried within one drain interval, most first, also those whose packets found no room in the flow map and stand in no flow record. All figures are those of the busiest drain interval.'

-- step
CREATE OR REPLACE VIEW unrecorded AS
SELECT
    agent,
    reason,
    sum(packets) AS unrecorded_packets,
    round(100 * unrecorded_packets / nullIf(any(a.seen), 0), 4) AS percent_of_seen,
    groupUniqArray(10)(interface) AS interfaces
FROM
(
    SELECT agent, interface, tupleElement(r, 1) AS reason, tupleElement(r, 2) AS packets
    FROM coverage
    ARRAY JOIN arrayConcat(
        [('no room in the flow map', overflow_packets), ('left out by sampling', skipped_packets), ('other', toUInt64(other_packets - least(other_packets, arraySum(mapValues(reasons)))))],
        arrayMap((k, v) -> (toString(k), v), mapKeys(reasons), mapValues(reasons))) AS r
    WHERE time >= now() - INTERVAL 1 HOUR
) AS c
LEFT JOIN (SELECT agent, sum(seen_packets) AS seen FROM coverage WHERE time >= now() - INTERVAL 1 HOUR GROUP BY agent) AS a ON a.agent = c.agent
WHERE packets > 0
GROUP BY agent, reason
ORDER BY unrecorded_packets DESC
COMMENT 'Why packets of the last hour stand in no flow record of their own, by agent and reason: no room (raise the agent''s flow map), sampling (the records are scaled up for these), or not IP, truncated and the like. Together with recorded_packets of coverage they are all that was seen.'
