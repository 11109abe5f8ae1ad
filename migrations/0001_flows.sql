-- Flow records, their one-minute rollup, and the agents' conservation proofs.
-- The time is packed by T64: within a part it is sorted only by five minutes, and Delta took 2.9 bytes where T64 takes 2.2.
-- age_ms repeats, which T64 hides from ZSTD: 0.52 bytes without, 0.77 with. More figures: docs/store.md.
-- Statements are separated by a line that holds only "-- step"; each is idempotent.

CREATE TABLE IF NOT EXISTS flows
(
    `agent` LowCardinality(String) COMMENT 'Agent that saw the flow' CODEC(ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface that accounted the packets' CODEC(ZSTD(1)),
    `start` DateTime64(3, 'UTC') COMMENT 'Time of the first packet of this record' CODEC(T64, ZSTD(1)),
    `duration_ms` UInt32 COMMENT 'Milliseconds from the first to the last packet of this record' CODEC(T64, ZSTD(1)),
    `src_ip` IPv6 COMMENT 'Initiator of the conversation (see initiator); IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder of the conversation; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    `src_port` UInt16 COMMENT 'Port of the initiator, 0 where the protocol has none' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder, 0 where the protocol has none' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6' CODEC(ZSTD(1)),
    `initiator` Enum8('unknown' = 0, 'syn' = 1, 'socket' = 2, 'first' = 3) COMMENT 'How the initiator is known: TCP SYN, the kernel socket, who spoke first (connectionless), or unknown (src is then only who was seen first)' CODEC(ZSTD(1)),
    `vlan` UInt16 COMMENT 'Outermost 802.1Q VLAN id, 0 if untagged' CODEC(ZSTD(1)),
    `src_packets` UInt64 COMMENT 'Packets sent by the initiator, as on the wire' CODEC(T64, ZSTD(1)),
    `src_bytes` UInt64 COMMENT 'Bytes of frames sent by the initiator, link-layer header included' CODEC(T64, ZSTD(1)),
    `dst_packets` UInt64 COMMENT 'Packets sent by the responder' CODEC(T64, ZSTD(1)),
    `dst_bytes` UInt64 COMMENT 'Bytes of frames sent by the responder' CODEC(T64, ZSTD(1)),
    `src_flags` UInt16 COMMENT 'TCP flags of the initiator, OR-ed: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR, 256 AE' CODEC(ZSTD(1)),
    `dst_flags` UInt16 COMMENT 'TCP flags of the responder, OR-ed' CODEC(ZSTD(1)),
    `conn_state` Enum8('OTH' = 0, 'S0' = 1, 'S1' = 2, 'SF' = 3, 'REJ' = 4, 'S2' = 5, 'S3' = 6, 'RSTO' = 7, 'RSTR' = 8, 'RSTOS0' = 9, 'RSTRH' = 10, 'SH' = 11, 'SHR' = 12) COMMENT 'State of the conversation so far, as Zeek defines conn_state' CODEC(ZSTD(1)),
    `icmp_type` UInt8 COMMENT 'ICMP type of the message by which the initiator began this record or, where the responder began it, an earlier one; a reply stands for its request. 0 where proto is not ICMP' CODEC(ZSTD(1)),
    `icmp_code` UInt8 COMMENT 'ICMP code of the message of icmp_type' CODEC(ZSTD(1)),
    `age_ms` UInt32 COMMENT 'Milliseconds the conversation had been known when this interval began; 0 marks its first record' CODEC(ZSTD(1)),
    `final` Bool COMMENT 'Whether the conversation ended with this record (closed, reset or idle)' CODEC(ZSTD(1)),
    `sampling` UInt32 COMMENT 'Packets were counted 1 in this many; counters are already scaled' CODEC(ZSTD(1)),
    `end` DateTime64(3, 'UTC') ALIAS start + toIntervalMillisecond(duration_ms) COMMENT 'Time of the last packet of this record',
    `bytes` UInt64 ALIAS src_bytes + dst_bytes COMMENT 'Bytes both ways',
    `packets` UInt64 ALIAS src_packets + dst_packets COMMENT 'Packets both ways',
    `src` String ALIAS replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'src_ip as people write it: IPv4 without ::ffff:. Filter by src_ip, which has an index',
    `dst` String ALIAS replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'dst_ip as people write it: IPv4 without ::ffff:. Filter by dst_ip, which has an index',
    INDEX src_ip_bloom src_ip TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX dst_ip_bloom dst_ip TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(start)
ORDER BY (toStartOfFiveMinutes(start), agent, dst_ip, dst_port, src_ip, start)
TTL toDateTime(start) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'One row per conversation, agent and drain interval: what the agent saw of it. Sum the counters over rows of one conversation; count rows with age_ms = 0 to count conversations.';

-- step
CREATE TABLE IF NOT EXISTS flows_1m
(
    `minute` DateTime('UTC') COMMENT 'Start of the minute (UTC) in which the records began' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent that saw the flows' CODEC(ZSTD(1)),
    `src_ip` IPv6 COMMENT 'Initiator' CODEC(ZSTD(1)),
    `dst_ip` IPv6 COMMENT 'Responder' CODEC(ZSTD(1)),
    `dst_port` UInt16 COMMENT 'Port of the responder' CODEC(ZSTD(1)),
    `proto` UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    `src_packets` UInt64 COMMENT 'Packets sent by the initiator' CODEC(T64, ZSTD(1)),
    `src_bytes` UInt64 COMMENT 'Bytes sent by the initiator' CODEC(T64, ZSTD(1)),
    `dst_packets` UInt64 COMMENT 'Packets sent by the responder' CODEC(T64, ZSTD(1)),
    `dst_bytes` UInt64 COMMENT 'Bytes sent by the responder' CODEC(T64, ZSTD(1)),
    `records` UInt64 COMMENT 'Flow records with packets: those that only tell of an end or of drops are left out' CODEC(T64, ZSTD(1)),
    `connections` UInt64 COMMENT 'Conversations that began (records with age_ms = 0)' CODEC(T64, ZSTD(1)),
    `unanswered` UInt64 COMMENT 'Conversations that began and got no useful answer within the interval: conn_state S0, REJ, RSTOS0 or SH' CODEC(T64, ZSTD(1)),
    `src` String ALIAS replaceRegexpOne(toString(src_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'src_ip as people write it: IPv4 without ::ffff:',
    `dst` String ALIAS replaceRegexpOne(toString(dst_ip), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'dst_ip as people write it: IPv4 without ::ffff:'
)
ENGINE = SummingMergeTree
PARTITION BY toDate(minute)
ORDER BY (minute, agent, dst_ip, dst_port, proto, src_ip)
TTL minute + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Flows summed per minute, agent, initiator, responder, responder port and protocol. Always aggregate with sum(): rows of one key may not be merged yet.';

-- step
CREATE MATERIALIZED VIEW IF NOT EXISTS flows_1m_mv TO flows_1m AS
SELECT
    toStartOfMinute(toDateTime(start, 'UTC')) AS minute,
    agent, src_ip, dst_ip, dst_port, proto,
    sum(src_packets) AS src_packets,
    sum(src_bytes) AS src_bytes,
    sum(dst_packets) AS dst_packets,
    sum(dst_bytes) AS dst_bytes,
    count() AS records,
    countIf(age_ms = 0) AS connections,
    countIf(age_ms = 0 AND conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS unanswered
FROM flows AS f
WHERE f.src_packets + f.dst_packets > 0
GROUP BY minute, agent, src_ip, dst_ip, dst_port, proto
COMMENT 'Fills flows_1m from every insert into flows, but for records without packets; not for reading.';

-- step
CREATE TABLE IF NOT EXISTS coverage
(
    `time` DateTime64(3, 'UTC') COMMENT 'End of the drain interval' CODEC(Delta, ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent',
    `agent_version` LowCardinality(String) COMMENT 'Build of the agent',
    `boot` LowCardinality(String) COMMENT 'One run of the agent',
    `sequence` UInt64 COMMENT 'Number of the batch in that run, from 1: a gap is a batch that is lost or still under way' CODEC(Delta, ZSTD(1)),
    `interval_ms` UInt32 COMMENT 'Length of the drain interval' CODEC(T64, ZSTD(1)),
    `flows` UInt32 COMMENT 'Flow records in the batch; 0 in all but the first row of a batch, so that sum() counts each record once' CODEC(T64, ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface of the attach point, empty for a batch without attach points',
    `direction` Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Direction of the attach point',
    `seen_packets` UInt64 COMMENT 'Packets that passed the attach point; seen = recorded + overflow + other, exactly' CODEC(T64, ZSTD(1)),
    `seen_bytes` UInt64 COMMENT 'Bytes that passed the attach point' CODEC(T64, ZSTD(1)),
    `recorded_packets` UInt64 COMMENT 'Packets that stand in flow records' CODEC(T64, ZSTD(1)),
    `recorded_bytes` UInt64 COMMENT 'Bytes that stand in flow records' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `overflow_bytes` UInt64 COMMENT 'Bytes that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `other_packets` UInt64 COMMENT 'Packets that are not IP or cannot be parsed' CODEC(T64, ZSTD(1)),
    `other_bytes` UInt64 COMMENT 'Bytes that are not IP or cannot be parsed' CODEC(T64, ZSTD(1)),
    `losses` Map(LowCardinality(String), UInt64) COMMENT 'What the agent had to give up since its start, by counter'
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (agent, time, interface, direction)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'The agents'' conservation proof: one row per batch and attach point. Also the heartbeat of each agent: a quiet agent still sends it.';
