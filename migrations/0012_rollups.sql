-- What is asked of days is summed as it comes in, so that a question reads thousands of rows and not millions: who talks with whom
-- by the hour and ever, programs and round-trip times by five minutes. What each costs and saves: docs/store.md.
-- Each table is filled from what is there before its view is made. A step that is repeated begins with an empty table.

CREATE TABLE IF NOT EXISTS flows_1h
(
    `hour` DateTime('UTC') COMMENT 'Start of the hour (UTC) in which the records began' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent that saw the flows' CODEC(ZSTD(1)),
    `src_ip` IPv6 COMMENT 'Initiator' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    `first_seen` SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'First minute of the hour with traffic' CODEC(T64, ZSTD(1)),
    `last_seen` SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Last minute of the hour with traffic' CODEC(T64, ZSTD(1)),
    `src_packets` SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets sent by the initiator' CODEC(T64, ZSTD(1)),
    `src_bytes` SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes sent by the initiator' CODEC(T64, ZSTD(1)),
    `dst_packets` SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets sent by the responder' CODEC(T64, ZSTD(1)),
    `dst_bytes` SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes sent by the responder' CODEC(T64, ZSTD(1)),
    `connections` SimpleAggregateFunction(sum, UInt64) COMMENT 'Conversations that began' CODEC(T64, ZSTD(1)),
    `unanswered` SimpleAggregateFunction(sum, UInt64) COMMENT 'Conversations that began and got no useful answer' CODEC(T64, ZSTD(1)),
    `src` String ALIAS replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'src_ip as people write it: IPv4 without ::ffff:',
    `dst` String ALIAS replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'dst_ip as people write it: IPv4 without ::ffff:'
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(hour)
ORDER BY (hour, dst_ip, src_ip, dst_port, proto, agent)
TTL hour + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'flows_1m summed by the hour: who talked with whom over days and months. Always aggregate with sum(), min(first_seen), max(last_seen): rows of one key may not be merged yet.'

-- step
TRUNCATE TABLE flows_1h

-- step
INSERT INTO flows_1h
SELECT
    toStartOfHour(minute) AS hour, agent, src_ip, dst_ip, dst_port, proto,
    min(minute) AS first_seen, max(minute) AS last_seen,
    sum(f.src_packets) AS src_packets, sum(f.src_bytes) AS src_bytes, sum(f.dst_packets) AS dst_packets, sum(f.dst_bytes) AS dst_bytes,
    sum(f.connections) AS connections, sum(f.unanswered) AS unanswered
FROM flows_1m AS f
GROUP BY hour, agent, src_ip, dst_ip, dst_port, proto
SETTINGS insert_deduplicate = 0

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS flows_1h_mv TO flows_1h AS
SELECT
    toStartOfHour(minute) AS hour, agent, src_ip, dst_ip, dst_port, proto,
    min(minute) AS first_seen, max(minute) AS last_seen,
    sum(f.src_packets) AS src_packets, sum(f.src_bytes) AS src_bytes, sum(f.dst_packets) AS dst_packets, sum(f.dst_bytes) AS dst_bytes,
    sum(f.connections) AS connections, sum(f.unanswered) AS unanswered
FROM flows_1m AS f
GROUP BY hour, agent, src_ip, dst_ip, dst_port, proto
COMMENT 'Fills flows_1h from every insert into flows_1m; not for reading.'

-- step
CREATE TABLE IF NOT EXISTS pairs
(
    `src_ip` IPv6 COMMENT 'Initiator' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    `first_seen` SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'First minute with traffic' CODEC(T64, ZSTD(1)),
    `last_seen` SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Last minute with traffic' CODEC(T64, ZSTD(1)),
    `src_bytes` SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes sent by the initiator' CODEC(T64, ZSTD(1)),
    `dst_bytes` SimpleAggregateFunction(sum, UInt64) COMMENT 'Bytes sent by the responder' CODEC(T64, ZSTD(1)),
    `connections` SimpleAggregateFunction(sum, UInt64) COMMENT 'Conversations that began' CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (src_ip, dst_ip, dst_port, proto)
TTL last_seen + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Who ever opened a conversation with whom: one row per initiator, responder, its port and protocol, until it was not seen for 90 days. Always aggregate with min(first_seen), max(last_seen), sum(): rows of one key may not be merged yet.'

-- step
TRUNCATE TABLE pairs

-- step
INSERT INTO pairs
SELECT src_ip, dst_ip, dst_port, proto, min(minute), max(minute), sum(f.src_bytes), sum(f.dst_bytes), sum(f.connections)
FROM flows_1m AS f
GROUP BY src_ip, dst_ip, dst_port, proto
SETTINGS insert_deduplicate = 0

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS pairs_mv TO pairs AS
SELECT
    src_ip, dst_ip, dst_port, proto,
    min(minute) AS first_seen, max(minute) AS last_seen,
    sum(f.src_bytes) AS src_bytes, sum(f.dst_bytes) AS dst_bytes, sum(f.connections) AS connections
FROM flows_1m AS f
GROUP BY src_ip, dst_ip, dst_port, proto
COMMENT 'Fills pairs from every insert into flows_1m; not for reading.'

-- step
CREATE TABLE IF NOT EXISTS service_rtt_5m
(
    `time` DateTime('UTC') COMMENT 'Start of the five minutes (UTC) in which the records began' CODEC(Delta, ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Server' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Its TCP port' CODEC(ZSTD(1)),
    `records` SimpleAggregateFunction(sum, UInt64) COMMENT 'Flow records with a round-trip time' CODEC(T64, ZSTD(1)),
    `rtt_us` AggregateFunction(quantilesDD(0.01, 0.5, 0.95), UInt32) COMMENT 'Sketch of their smoothed round-trip times in microseconds, to 1 %: quantilesDDMerge(0.01, 0.5, 0.95)(rtt_us) is median and 95th percentile' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (time, dst_ip, dst_port)
TTL time + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Round-trip times of TCP by server, port and five minutes, as sketches. Always aggregate: rows of one key may not be merged yet. The view service_rtt reads it.'

-- step
TRUNCATE TABLE service_rtt_5m

-- step
INSERT INTO service_rtt_5m
SELECT toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, dst_ip, dst_port, count(), quantilesDDState(0.01, 0.5, 0.95)(f.rtt_us)
FROM flows AS f
WHERE f.rtt_us > 0 AND proto = 6
GROUP BY time, dst_ip, dst_port
SETTINGS insert_deduplicate = 0

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS service_rtt_5m_mv TO service_rtt_5m AS
SELECT
    toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, dst_ip, dst_port,
    count() AS records, quantilesDDState(0.01, 0.5, 0.95)(f.rtt_us) AS rtt_us
FROM flows AS f
WHERE f.rtt_us > 0 AND proto = 6
GROUP BY time, dst_ip, dst_port
COMMENT 'Fills service_rtt_5m from every insert into flows that has a round-trip time; not for reading.'

-- step
CREATE TABLE IF NOT EXISTS processes_5m
(
    `time` DateTime('UTC') COMMENT 'Start of the five minutes (UTC) in which the records began' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent' CODEC(ZSTD(1)),
    `process` LowCardinality(String) COMMENT 'Name of the process' CODEC(ZSTD(1)),
    `unit` LowCardinality(String) COMMENT 'systemd unit' CODEC(ZSTD(1)),
    `container` LowCardinality(String) COMMENT 'Container id' CODEC(ZSTD(1)),
    `role` Enum8('client' = 0, 'server' = 1) COMMENT 'client: it opened the conversations' CODEC(ZSTD(1)),
    `sent_bytes` UInt64 COMMENT 'Bytes sent by the process' CODEC(T64, ZSTD(1)),
    `received_bytes` UInt64 COMMENT 'Bytes received by the process' CODEC(T64, ZSTD(1)),
    `connections` UInt64 COMMENT 'Conversations that began' CODEC(T64, ZSTD(1)),
    `failed` UInt64 COMMENT 'Conversations that began and got no useful answer' CODEC(T64, ZSTD(1)),
    `retransmits` UInt64 COMMENT 'TCP segments that the process''s side sent again' CODEC(T64, ZSTD(1)),
    `drops` UInt64 COMMENT 'Packets from the process''s side that the kernel dropped' CODEC(T64, ZSTD(1))
)
ENGINE = SummingMergeTree
PARTITION BY toDate(time)
ORDER BY (time, agent, process, unit, container, role)
TTL time + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'What each program of each host sent and received, by five minutes. Always aggregate with sum(): rows of one key may not be merged yet. Traffic without a known process is not here.'

-- step
TRUNCATE TABLE processes_5m

-- step
INSERT INTO processes_5m
SELECT
    toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, agent, src_process, src_unit, src_container, 'client',
    sum(src_bytes), sum(dst_bytes), countIf(age_ms = 0), countIf(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')), sum(src_retransmits), sum(src_drops)
FROM flows
WHERE src_pid > 0
GROUP BY time, agent, src_process, src_unit, src_container
SETTINGS insert_deduplicate = 0

-- step
INSERT INTO processes_5m
SELECT
    toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, agent, dst_process, dst_unit, dst_container, 'server',
    sum(dst_bytes), sum(src_bytes), countIf(age_ms = 0), countIf(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')), sum(dst_retransmits), sum(dst_drops)
FROM flows
WHERE dst_pid > 0
GROUP BY time, agent, dst_process, dst_unit, dst_container
SETTINGS insert_deduplicate = 0

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS processes_5m_client_mv TO processes_5m AS
SELECT
    toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, agent,
    src_process AS process, src_unit AS unit, src_container AS container, 'client' AS role,
    sum(src_bytes) AS sent_bytes, sum(dst_bytes) AS received_bytes,
    countIf(age_ms = 0) AS connections,
    countIf(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    sum(src_retransmits) AS retransmits, sum(src_drops) AS drops
FROM flows
WHERE src_pid > 0
GROUP BY time, agent, process, unit, container
COMMENT 'Fills processes_5m from every insert into flows, from the side of the initiator; not for reading.'

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS processes_5m_server_mv TO processes_5m AS
SELECT
    toStartOfFiveMinutes(toDateTime(start, 'UTC')) AS time, agent,
    dst_process AS process, dst_unit AS unit, dst_container AS container, 'server' AS role,
    sum(dst_bytes) AS sent_bytes, sum(src_bytes) AS received_bytes,
    countIf(age_ms = 0) AS connections,
    countIf(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    sum(dst_retransmits) AS retransmits, sum(dst_drops) AS drops
FROM flows
WHERE dst_pid > 0
GROUP BY time, agent, process, unit, container
COMMENT 'Fills processes_5m from every insert into flows, from the side of the responder; not for reading.'

-- step
CREATE OR REPLACE VIEW top_talkers AS
SELECT
    replaceRegexpOne(toString(ip), '^::ffff:([0-9.]+)$', '\\1') AS address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(both) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT src_ip AS ip, dst_ip AS peer, src_bytes AS sent, dst_bytes AS received, src_packets + dst_packets AS both, connections AS opened, 0 AS accepted
    FROM flows_1m WHERE minute >= now() - INTERVAL 1 HOUR
    UNION ALL
    SELECT dst_ip, src_ip, dst_bytes, src_bytes, src_packets + dst_packets, 0, connections
    FROM flows_1m WHERE minute >= now() - INTERVAL 1 HOUR
)
GROUP BY ip
ORDER BY bytes DESC, ip
COMMENT 'Addresses by the bytes they sent and received in the last hour, most first; peers is how many others each talked with. Several agents that see the same traffic each count it.'

-- step
CREATE OR REPLACE VIEW top_talkers_between AS
SELECT
    replaceRegexpOne(toString(ip), '^::ffff:([0-9.]+)$', '\\1') AS address,
    sum(sent) + sum(received) AS bytes,
    sum(sent) AS sent_bytes,
    sum(received) AS received_bytes,
    sum(both) AS packets,
    uniq(peer) AS peers,
    sum(opened) AS connections_opened,
    sum(accepted) AS connections_accepted
FROM
(
    SELECT src_ip AS ip, dst_ip AS peer, src_bytes AS sent, dst_bytes AS received, src_packets + dst_packets AS both, connections AS opened, 0 AS accepted
    FROM flows_1m WHERE minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
    UNION ALL
    SELECT dst_ip, src_ip, dst_bytes, src_bytes, src_packets + dst_packets, 0, connections
    FROM flows_1m WHERE minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
)
GROUP BY ip
ORDER BY bytes DESC, ip
COMMENT 'As top_talkers, from since to until (UTC, by the minute).'

-- step
CREATE OR REPLACE VIEW services AS
SELECT
    replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') AS server,
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
GROUP BY dst_ip, port, proto
ORDER BY opened DESC
COMMENT 'What was connected to in the last hour: address, port and IANA protocol number, with clients, connections opened, and those of them that got no useful answer (failed).'

-- step
CREATE OR REPLACE VIEW service_rtt AS
SELECT
    replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') AS server,
    dst_port AS port,
    sum(s.records) AS records,
    round(quantilesDDMerge(0.01, 0.5, 0.95)(s.rtt_us)[1] / 1000, 3) AS median_ms,
    round(quantilesDDMerge(0.01, 0.5, 0.95)(s.rtt_us)[2] / 1000, 3) AS p95_ms
FROM service_rtt_5m AS s
WHERE time >= toStartOfFiveMinutes(now() - INTERVAL 1 HOUR)
GROUP BY dst_ip, port
ORDER BY p95_ms DESC
COMMENT 'Round-trip times of TCP by server and port in the last hour, to five minutes, slowest first: from sketches, to 1 %. Services without a known time are not here.'

-- step
CREATE OR REPLACE VIEW service_rtt_between AS
SELECT
    replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') AS server,
    dst_port AS port,
    sum(s.records) AS records,
    round(quantilesDDMerge(0.01, 0.5, 0.95)(s.rtt_us)[1] / 1000, 3) AS median_ms,
    round(quantilesDDMerge(0.01, 0.5, 0.95)(s.rtt_us)[2] / 1000, 3) AS p95_ms
FROM service_rtt_5m AS s
WHERE time >= toStartOfFiveMinutes({since:DateTime('UTC')}) AND time < {until:DateTime('UTC')}
GROUP BY dst_ip, port
ORDER BY p95_ms DESC
COMMENT 'As service_rtt, from since to until (UTC, by five minutes).'

-- step
CREATE OR REPLACE VIEW new_pairs AS
SELECT
    replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') AS src,
    replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') AS dst,
    dst_port AS port,
    proto,
    min(p.first_seen) AS first_seen,
    max(p.last_seen) AS last_seen,
    sum(p.src_bytes) AS src_sent_bytes,
    sum(p.dst_bytes) AS dst_sent_bytes,
    sum(p.connections) AS opened
FROM pairs AS p
GROUP BY src_ip, dst_ip, port, proto
HAVING first_seen >= now() - INTERVAL 1 DAY
ORDER BY first_seen DESC
COMMENT 'Who connected in the last day to what it had not connected to in the 90 days before. In the first days of an installation that is everything.'

-- step
CREATE OR REPLACE VIEW new_pairs_since AS
SELECT
    replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') AS src,
    replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') AS dst,
    dst_port AS port,
    proto,
    min(p.first_seen) AS first_seen,
    max(p.last_seen) AS last_seen,
    sum(p.src_bytes) AS src_sent_bytes,
    sum(p.dst_bytes) AS dst_sent_bytes,
    sum(p.connections) AS opened
FROM pairs AS p
GROUP BY src_ip, dst_ip, port, proto
HAVING first_seen >= {since:DateTime('UTC')}
ORDER BY first_seen DESC
COMMENT 'As new_pairs, first seen at since or later.'

-- step
CREATE OR REPLACE VIEW peers_of AS
SELECT
    replaceRegexpOne(toString(other), '^::ffff:([0-9.]+)$', '\\1') AS peer,
    side,
    dst_port AS port,
    proto,
    min(first) AS first_seen,
    max(last) AS last_seen,
    sum(sent) AS sent_to_peer_bytes,
    sum(received) AS received_from_peer_bytes,
    sum(connections) AS opened,
    sum(unanswered) AS failed
FROM
(
    SELECT dst_ip AS other, 'opened by address' AS side, dst_port, proto, first_seen AS first, last_seen AS last, src_bytes AS sent, dst_bytes AS received, connections, unanswered
    FROM flows_1h
    WHERE src_ip = toIPv6({address:String}) AND hour >= toStartOfHour({since:DateTime('UTC')} + INTERVAL 3599 SECOND) AND hour < toStartOfHour({until:DateTime('UTC')})
    UNION ALL
    SELECT src_ip AS other, 'opened by peer' AS side, dst_port, proto, first_seen AS first, last_seen AS last, dst_bytes AS sent, src_bytes AS received, connections, unanswered
    FROM flows_1h
    WHERE dst_ip = toIPv6({address:String}) AND hour >= toStartOfHour({since:DateTime('UTC')} + INTERVAL 3599 SECOND) AND hour < toStartOfHour({until:DateTime('UTC')})
    UNION ALL
    SELECT dst_ip AS other, 'opened by address' AS side, dst_port, proto, minute AS first, minute AS last, src_bytes AS sent, dst_bytes AS received, connections, unanswered
    FROM flows_1m
    WHERE src_ip = toIPv6({address:String}) AND minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
        AND (minute < toStartOfHour({since:DateTime('UTC')} + INTERVAL 3599 SECOND) OR minute >= toStartOfHour({until:DateTime('UTC')}))
    UNION ALL
    SELECT src_ip AS other, 'opened by peer' AS side, dst_port, proto, minute AS first, minute AS last, dst_bytes AS sent, src_bytes AS received, connections, unanswered
    FROM flows_1m
    WHERE dst_ip = toIPv6({address:String}) AND minute >= toStartOfMinute({since:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
        AND (minute < toStartOfHour({since:DateTime('UTC')} + INTERVAL 3599 SECOND) OR minute >= toStartOfHour({until:DateTime('UTC')}))
)
GROUP BY other, side, port, proto
ORDER BY sent_to_peer_bytes + received_from_peer_bytes DESC
COMMENT 'Who talked with address from since to until (UTC, by the minute): one row per peer, side (opened by address, or by peer), responder port and proto (IANA number), with first_seen and last_seen, sent_to_peer_bytes and received_from_peer_bytes, connections opened, and those of them that got no useful answer (failed).'

-- step
CREATE OR REPLACE VIEW hours_of AS
SELECT
    hour,
    sumIf(src_bytes, is_src) + sumIf(dst_bytes, is_dst) AS sent,
    sumIf(dst_bytes, is_src) + sumIf(src_bytes, is_dst) AS received,
    uniq(if(is_src, dst_ip, src_ip)) AS peers,
    sumIf(connections, is_src) AS opened,
    sumIf(unanswered, is_src) AS failed,
    sumIf(connections, is_dst) AS accepted,
    sumIf(unanswered, is_dst) AS not_answered
FROM
(
    SELECT hour, src_ip, dst_ip, src_bytes, dst_bytes, connections, unanswered,
        src_ip = toIPv6({address:String}) AS is_src, dst_ip = toIPv6({address:String}) AS is_dst
    FROM flows_1h
    WHERE (src_ip = toIPv6({address:String}) OR dst_ip = toIPv6({address:String}))
        AND hour >= toStartOfHour({since:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
)
GROUP BY hour
ORDER BY hour
COMMENT 'What address did from since to until (UTC): one row per hour, with bytes sent and received, distinct peers, conversations that it opened and those of them that failed, conversations of others that it accepted, and those of them that it did not answer (not_answered).'

-- step
CREATE OR REPLACE VIEW process_traffic AS
SELECT
    agent, process, unit, container, role,
    sum(p.sent_bytes) AS sent_bytes,
    sum(p.received_bytes) AS received_bytes,
    sum(p.connections) AS connections,
    sum(p.failed) AS failed,
    sum(p.retransmits) AS retransmits,
    sum(p.drops) AS drops
FROM processes_5m AS p
WHERE time >= toStartOfFiveMinutes(now() - INTERVAL 1 HOUR)
GROUP BY agent, process, unit, container, role
ORDER BY sent_bytes + received_bytes DESC
COMMENT 'As processes, to five minutes and without what needs each record: fast over days. Its sibling process_traffic_between(since, until) looks wherever it is told.'

-- step
CREATE OR REPLACE VIEW process_traffic_between AS
SELECT
    agent, process, unit, container, role,
    sum(p.sent_bytes) AS sent_bytes,
    sum(p.received_bytes) AS received_bytes,
    sum(p.connections) AS connections,
    sum(p.failed) AS failed,
    sum(p.retransmits) AS retransmits,
    sum(p.drops) AS drops
FROM processes_5m AS p
WHERE time >= toStartOfFiveMinutes({since:DateTime('UTC')}) AND time < {until:DateTime('UTC')}
GROUP BY agent, process, unit, container, role
ORDER BY sent_bytes + received_bytes DESC
COMMENT 'As process_traffic, from since to until (UTC, by five minutes).'

-- step
ALTER TABLE top_talkers
    COMMENT COLUMN IF EXISTS `address` 'Address, as people write it',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes both ways',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes it sent',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes it received',
    COMMENT COLUMN IF EXISTS `packets` 'Packets both ways',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses it talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Conversations it opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Conversations others opened with it'

-- step
ALTER TABLE services
    COMMENT COLUMN IF EXISTS `server` 'Address of the responder, as people write it',
    COMMENT COLUMN IF EXISTS `port` 'Its port',
    COMMENT COLUMN IF EXISTS `proto` 'IANA protocol number: 6 TCP, 17 UDP',
    COMMENT COLUMN IF EXISTS `clients` 'Distinct clients',
    COMMENT COLUMN IF EXISTS `opened` 'Conversations that began',
    COMMENT COLUMN IF EXISTS `failed` 'Those of them that got no useful answer',
    COMMENT COLUMN IF EXISTS `request_bytes` 'Bytes sent by the clients',
    COMMENT COLUMN IF EXISTS `response_bytes` 'Bytes sent by the server',
    COMMENT COLUMN IF EXISTS `seen_by` 'Agents that saw it, ten at most'

-- step
ALTER TABLE service_rtt
    COMMENT COLUMN IF EXISTS `server` 'Address of the responder, as people write it',
    COMMENT COLUMN IF EXISTS `port` 'Its TCP port',
    COMMENT COLUMN IF EXISTS `records` 'Flow records with a round-trip time',
    COMMENT COLUMN IF EXISTS `median_ms` 'Median of the smoothed round-trip times in milliseconds',
    COMMENT COLUMN IF EXISTS `p95_ms` '95th percentile of the same; of few records, the next lower value'

-- step
ALTER TABLE new_pairs
    COMMENT COLUMN IF EXISTS `src` 'Initiator, as people write it',
    COMMENT COLUMN IF EXISTS `dst` 'Responder, as people write it',
    COMMENT COLUMN IF EXISTS `port` 'Port of the responder',
    COMMENT COLUMN IF EXISTS `proto` 'IANA protocol number: 6 TCP, 17 UDP',
    COMMENT COLUMN IF EXISTS `first_seen` 'First minute with traffic',
    COMMENT COLUMN IF EXISTS `last_seen` 'Last minute with traffic',
    COMMENT COLUMN IF EXISTS `src_sent_bytes` 'Bytes sent by the initiator since first_seen',
    COMMENT COLUMN IF EXISTS `dst_sent_bytes` 'Bytes sent by the responder since first_seen',
    COMMENT COLUMN IF EXISTS `opened` 'Conversations that began'

-- step
ALTER TABLE process_traffic
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `process` 'Name of the process',
    COMMENT COLUMN IF EXISTS `unit` 'systemd unit',
    COMMENT COLUMN IF EXISTS `container` 'Container id',
    COMMENT COLUMN IF EXISTS `role` 'client: it opened the conversations; or server',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent by the process',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received by the process',
    COMMENT COLUMN IF EXISTS `connections` 'Conversations that began',
    COMMENT COLUMN IF EXISTS `failed` 'Those of them that got no useful answer',
    COMMENT COLUMN IF EXISTS `retransmits` 'TCP segments that its side sent again',
    COMMENT COLUMN IF EXISTS `drops` 'Packets from its side that the kernel dropped'
