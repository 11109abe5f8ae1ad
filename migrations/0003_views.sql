-- What a SQL user reads first. Views without parameters look at the recent past; their siblings with parameters
-- look wherever they are told: SELECT * FROM top_talkers_between(since = '2026-01-01 00:00:00', until = '2026-01-01 01:00:00').
-- Addresses are text as people write it. Times are UTC.

CREATE OR REPLACE VIEW top_talkers AS
SELECT
    address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(packets) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT src AS address, dst_ip AS peer, src_bytes AS sent, dst_bytes AS received, src_packets + dst_packets AS packets, connections AS opened, 0 AS accepted
    FROM flows_1m WHERE minute >= now() - INTERVAL 1 HOUR
    UNION ALL
    SELECT dst, src_ip, dst_bytes, src_bytes, src_packets + dst_packets, 0, connections
    FROM flows_1m WHERE minute >= now() - INTERVAL 1 HOUR
)
GROUP BY address
ORDER BY bytes DESC
COMMENT 'Addresses by the bytes they sent and received in the last hour, most first; peers is how many others each talked with. Several agents that see the same traffic each count it.'

-- step
CREATE OR REPLACE VIEW top_talkers_between AS
SELECT
    address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(packets) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT src AS address, dst_ip AS peer, src_bytes AS sent, dst_bytes AS received, src_packets + dst_packets AS packets, connections AS opened, 0 AS accepted
    FROM flows_1m WHERE minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
    UNION ALL
    SELECT dst, src_ip, dst_bytes, src_bytes, src_packets + dst_packets, 0, connections
    FROM flows_1m WHERE minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
)
GROUP BY address
ORDER BY bytes DESC
COMMENT 'As top_talkers, from since to until (UTC, by the minute).'

-- step
CREATE OR REPLACE VIEW services AS
SELECT
    dst AS server,
    dst_port AS port,
    proto,
    uniq(src_ip) AS clients,
    sum(connections) AS opened,
    sum(unanswered) AS failed,
    sum(src_bytes) AS request_bytes,
    sum(dst_bytes) AS response_bytes,
    groupUniqArray(10)(agent) AS seen_by
FROM flows_1m
WHERE minute >= now() - INTERVAL 1 HOUR
GROUP BY dst_ip, server, port, proto
ORDER BY opened DESC
COMMENT 'What was connected to in the last hour: address, port and IANA protocol number, with clients, connections opened, and those of them that got no useful answer (failed).'

-- step
CREATE OR REPLACE VIEW new_pairs AS
SELECT
    src,
    dst,
    dst_port AS port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(src_bytes) AS src_sent_bytes,
    sum(dst_bytes) AS dst_sent_bytes,
    sum(connections) AS opened,
    groupUniqArray(10)(agent) AS seen_by
FROM flows_1m
GROUP BY src_ip, dst_ip, src, dst, port, proto
HAVING first_seen >= now() - INTERVAL 1 DAY
ORDER BY first_seen DESC
COMMENT 'Who connected in the last day to what it had not connected to before, as far back as the rollup reaches (30 days). In the first days of an installation that is everything.'

-- step
CREATE OR REPLACE VIEW new_pairs_since AS
SELECT
    src,
    dst,
    dst_port AS port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(src_bytes) AS src_sent_bytes,
    sum(dst_bytes) AS dst_sent_bytes,
    sum(connections) AS opened,
    groupUniqArray(10)(agent) AS seen_by
FROM flows_1m
GROUP BY src_ip, dst_ip, src, dst, port, proto
HAVING first_seen >= {since:DateTime('UTC')}
ORDER BY first_seen DESC
COMMENT 'As new_pairs, first seen at since or later.'

-- step
CREATE OR REPLACE VIEW peers_of AS
SELECT
    peer,
    side,
    port,
    proto,
    min(minute) AS first_seen,
    max(minute) AS last_seen,
    sum(sent) AS sent_to_peer_bytes,
    sum(received) AS received_from_peer_bytes,
    sum(connections) AS opened,
    sum(unanswered) AS failed
FROM
(
    SELECT dst AS peer, 'opened by address' AS side, dst_port AS port, proto, minute, src_bytes AS sent, dst_bytes AS received, connections, unanswered
    FROM flows_1m
    WHERE src_ip = toIPv6({address:String}) AND minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
    UNION ALL
    SELECT src, 'opened by peer', dst_port, proto, minute, dst_bytes, src_bytes, connections, unanswered
    FROM flows_1m
    WHERE dst_ip = toIPv6({address:String}) AND minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
)
GROUP BY peer, side, port, proto
ORDER BY sent_to_peer_bytes + received_from_peer_bytes DESC
COMMENT 'Who talked with address from since to until (UTC, by the minute): one row per peer, who opened the connections, responder port and protocol.'

-- step
CREATE OR REPLACE VIEW missing_batches AS
SELECT
    agent,
    boot,
    min(time) AS since,
    max(time) AS until,
    max(sequence) - min(sequence) + 1 - uniqExact(sequence) AS missing
FROM coverage
GROUP BY agent, boot
HAVING missing > 0
ORDER BY until DESC
COMMENT 'Gaps in the numbered batches of each run of an agent, as far back as coverage reaches: batches that were dropped, refused (see collector dlq list) or are still under way.'

-- step
CREATE OR REPLACE VIEW latest_findings AS
SELECT
    id, detector, kind, src, dst, port, host, window_start, window_end, score, p_value, severity, summary, incident,
    length(evidence.id) AS evidence_count
FROM findings FINAL
ORDER BY window_end DESC
COMMENT 'Each finding in its newest version, latest first. Its facts are in findings_evidence.'

-- step
CREATE OR REPLACE VIEW findings_evidence AS
SELECT
    f.id AS finding,
    f.kind AS kind,
    f.severity AS severity,
    f.src AS src,
    f.dst AS dst,
    f.port AS port,
    f.host AS host,
    f.window_start AS window_start,
    f.window_end AS window_end,
    f.summary AS summary,
    f.incident AS incident,
    e_id AS evidence,
    e_metric AS metric,
    e_value AS value,
    e_unit AS unit,
    e_baseline AS baseline,
    e_query AS query
FROM findings AS f FINAL
ARRAY JOIN
    f.evidence.id AS e_id, f.evidence.metric AS e_metric, f.evidence.value AS e_value, f.evidence.unit AS e_unit,
    f.evidence.baseline AS e_baseline, f.evidence.query AS e_query
ORDER BY window_end DESC, finding, evidence
COMMENT 'One row per measured fact behind a finding: metric, value, unit, what is usual (baseline, if known), and a query that shows it.'

-- step
CREATE OR REPLACE VIEW latest_incidents AS
SELECT
    id, status, severity, title, kinds, entities, findings, started, ended, opened,
    dateDiff('second', started, ended) AS lasted_seconds
FROM incidents FINAL
ORDER BY started DESC
COMMENT 'Each incident in its newest version, latest first.'

-- step
CREATE OR REPLACE VIEW latest_reports AS
SELECT id, kind, subject, window_start, window_end, severity, title, author, note, created, markdown
FROM reports FINAL
ORDER BY created DESC
COMMENT 'Each report in its newest version, latest first. note says why a model''s words were not used, if so.'

-- step
CREATE OR REPLACE VIEW latest_deliveries AS
SELECT
    d.report AS report,
    r.title AS title,
    d.endpoint AS endpoint,
    d.state AS state,
    d.attempts AS attempts,
    d.http_status AS http_status,
    d.error AS error,
    d.next_attempt AS next_attempt,
    d.updated AS updated
FROM deliveries AS d FINAL
LEFT JOIN (SELECT id, title FROM reports FINAL) AS r ON r.id = d.report
ORDER BY updated DESC
COMMENT 'State of each report at each webhook endpoint, latest first.'
