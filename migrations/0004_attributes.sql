-- What agents tell beside addresses and counters: health, owners, application hints, tunnels; what sampling left out;
-- and the early warnings that come before the flow records.
-- Names are LowCardinality also where they are many: server_name took 1.0 byte a row so and 2.9 as String, and a GROUP BY
-- a quarter of the time. Process ids repeat within a host, which T64 hides from ZSTD: 1.1 bytes a row without, 1.8 with.

ALTER TABLE flows
    ADD COLUMN IF NOT EXISTS `interfaces` LowCardinality(String) DEFAULT interface COMMENT 'All interfaces of the host that saw the conversation, separated by spaces, in the order of sight' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `netns` LowCardinality(String) COMMENT 'Network namespace of interface, empty for the agent''s own' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tunnel` Enum8('' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4) COMMENT 'Innermost encapsulation around the packets, empty for none; addresses and ports are those inside' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tunnel_id` UInt32 COMMENT 'VNI or GRE key of the tunnel, 0 if it has none' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_retransmits` UInt32 COMMENT 'TCP segments of the initiator that begin below what it had sent already' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_retransmits` UInt32 COMMENT 'TCP segments of the responder that begin below what it had sent already' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_zero_windows` UInt32 COMMENT 'TCP segments with which the initiator closed its receive window: it reads too slowly' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_zero_windows` UInt32 COMMENT 'TCP segments with which the responder closed its receive window: it reads too slowly' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_resets` UInt32 COMMENT 'TCP segments with RST from the initiator' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_resets` UInt32 COMMENT 'TCP segments with RST from the responder' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `handshake_us` UInt32 COMMENT 'Microseconds from the first SYN to the initiator''s ACK of the SYN-ACK: one round trip. Stands in the record that saw the end of the handshake; 0 is unknown' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `rtt_us` UInt32 COMMENT 'Smoothed round-trip time at the end of the record, in microseconds; 0 is unknown' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_drops` UInt32 COMMENT 'Packets of the initiator that the kernel of the agent''s host dropped' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_drops` UInt32 COMMENT 'Packets of the responder that the kernel of the agent''s host dropped' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `drop_reason` LowCardinality(String) COMMENT 'The kernel''s name of the most frequent reason of both sides'' drops' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_pid` UInt32 COMMENT 'Process of the initiator, where it is a socket of the agent''s host; 0 is unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_pid` UInt32 COMMENT 'Process of the responder, where it is a socket of the agent''s host; 0 is unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_process` LowCardinality(String) COMMENT 'Name of the process src_pid, as the kernel has it: 15 bytes at most' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_process` LowCardinality(String) COMMENT 'Name of the process dst_pid, as the kernel has it: 15 bytes at most' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_uid` UInt32 COMMENT 'User id of src_pid; says nothing where src_pid is 0' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_uid` UInt32 COMMENT 'User id of dst_pid; says nothing where dst_pid is 0' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_unit` LowCardinality(String) COMMENT 'systemd unit of src_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_unit` LowCardinality(String) COMMENT 'systemd unit of dst_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_container` LowCardinality(String) COMMENT 'Container id of src_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_container` LowCardinality(String) COMMENT 'Container id of dst_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_pod` LowCardinality(String) COMMENT 'Kubernetes pod UID of src_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_pod` LowCardinality(String) COMMENT 'Kubernetes pod UID of dst_pid' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `app` Enum8('' = 0, 'dns' = 1, 'tls' = 2, 'http' = 3, 'quic' = 4) COMMENT 'Application protocol by its content, empty if not recognised' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `server_name` LowCardinality(String) COMMENT 'Name that was asked for: DNS question, TLS server name or HTTP Host. Its words are the sender''s' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dns_type` LowCardinality(String) COMMENT 'Type of the DNS question: A, AAAA, TYPE65280' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dns_rcode` LowCardinality(String) COMMENT 'Code of the DNS answer: NOERROR, NXDOMAIN, RCODE12; empty where none was seen' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dns_answers` UInt16 COMMENT 'Records in the answer section of the DNS answer' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `app_latency_us` UInt32 COMMENT 'Microseconds from the first request to the first response; 0 is unknown' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tls_alpn` LowCardinality(String) COMMENT 'First application protocol that the TLS client offered' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tls_ja4` LowCardinality(String) COMMENT 'JA4 fingerprint of the TLS ClientHello' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `http_method` LowCardinality(String) COMMENT 'Method of the first HTTP/1 request' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `http_status` UInt16 COMMENT 'Status of the first HTTP/1 response, 0 where none was seen' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `quic_version` LowCardinality(String) COMMENT 'QUIC version: 1, 2, draft-29, else hexadecimal' CODEC(ZSTD(1))

-- step
ALTER TABLE coverage
    ADD COLUMN IF NOT EXISTS `netns` LowCardinality(String) COMMENT 'Network namespace of the interface, empty for the agent''s own' AFTER interface,
    ADD COLUMN IF NOT EXISTS `skipped_packets` UInt64 COMMENT 'Packets that sampling left out: the flow records are scaled and stand for these too' CODEC(T64, ZSTD(1)) AFTER other_bytes,
    ADD COLUMN IF NOT EXISTS `skipped_bytes` UInt64 COMMENT 'Bytes that sampling left out' CODEC(T64, ZSTD(1)) AFTER skipped_packets,
    ADD COLUMN IF NOT EXISTS `reasons` Map(LowCardinality(String), UInt64) COMMENT 'The packets of other_packets by why they stand in no record: not_ip, truncated, …' AFTER skipped_bytes,
    COMMENT COLUMN IF EXISTS `time` 'End of the drain interval; where interval_ms is 0, end of the early warnings',
    COMMENT COLUMN IF EXISTS `interval_ms` 'Length of the drain interval; 0 marks a batch of early warnings alone, which ends no drain',
    COMMENT COLUMN IF EXISTS `seen_packets` 'Packets that passed the attach point; seen = recorded + overflow + other + skipped, exactly',
    COMMENT COLUMN IF EXISTS `recorded_packets` 'Packets that stand in flow records. With sampling 1 in N these were taken and counted N-fold there',
    COMMENT COLUMN IF EXISTS `recorded_bytes` 'Bytes of recorded_packets',
    MODIFY COMMENT 'The agents'' conservation proof: one row per batch and attach point, seen = recorded + overflow + other + skipped to the byte. Also the heartbeat of each agent: a quiet agent still sends it. Rows with interval_ms = 0 are batches of early warnings: they count for gaps in sequence, not as drains.'

-- step
CREATE TABLE IF NOT EXISTS features
(
    `time` DateTime64(3, 'UTC') COMMENT 'End of the interval' CODEC(Delta, ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent' CODEC(ZSTD(1)),
    `interface` LowCardinality(String) COMMENT 'Interface of the attach point' CODEC(ZSTD(1)),
    `netns` LowCardinality(String) COMMENT 'Network namespace of the interface, empty for the agent''s own' CODEC(ZSTD(1)),
    `direction` Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Direction of the attach point' CODEC(ZSTD(1)),
    `interval_ms` UInt32 COMMENT 'Length of the interval in milliseconds, a second mostly' CODEC(T64, ZSTD(1)),
    `seen_packets` UInt64 COMMENT 'Packets that passed the attach point' CODEC(T64, ZSTD(1)),
    `seen_bytes` UInt64 COMMENT 'Bytes that passed the attach point' CODEC(T64, ZSTD(1)),
    `syn_packets` UInt64 COMMENT 'TCP packets with SYN and without ACK: connections that somebody tries to open' CODEC(T64, ZSTD(1)),
    `syn_ack_packets` UInt64 COMMENT 'TCP packets with SYN and ACK: connections that somebody accepts' CODEC(T64, ZSTD(1)),
    `fin_packets` UInt64 COMMENT 'TCP packets with FIN' CODEC(T64, ZSTD(1)),
    `rst_packets` UInt64 COMMENT 'TCP packets with RST' CODEC(T64, ZSTD(1)),
    `new_flows` UInt64 COMMENT 'Entries of the flow map that began' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Packets that found no room in the flow map' CODEC(T64, ZSTD(1)),
    `sizes` Array(UInt64) COMMENT 'Frames by floor(log2(bytes)): the element of index 7 (the first has index 1) counts those of 64 to 127 bytes' CODEC(T64, ZSTD(1)),
    `gaps` Array(UInt64) COMMENT 'Sampled pairs of consecutive frames by floor(log2(nanoseconds between them)): the element of index 11 counts 1024 to 2047 ns' CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfFiveMinutes(time), agent, interface, direction, time)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Early warning: what each attach point saw in each second, stored seconds before the flow records of the drain.'

-- step
CREATE TABLE IF NOT EXISTS sources
(
    `time` DateTime64(3, 'UTC') COMMENT 'When the agent looked' CODEC(Delta, ZSTD(1)),
    `received` DateTime64(3, 'UTC') COMMENT 'When NATS stored the batch' CODEC(Delta, ZSTD(1)),
    `agent` LowCardinality(String) COMMENT 'Agent' CODEC(ZSTD(1)),
    `addr` IPv6 COMMENT 'Sender; IPv4 as ::ffff:a.b.c.d; :: where others is true' CODEC(ZSTD(1)),
    `others` Bool COMMENT 'Whether the row stands for all senders that had no room of their own' CODEC(ZSTD(1)),
    `interval_ms` UInt32 COMMENT 'Milliseconds that the drain interval had lasted: the row covers all of it so far' CODEC(T64, ZSTD(1)),
    `flows` UInt64 COMMENT 'Entries of the flow map that the sender began, and its packets that found no room' CODEC(T64, ZSTD(1)),
    `targets` UInt64 COMMENT 'Distinct (address, protocol, port) that it sent to, estimated by a sketch' CODEC(T64, ZSTD(1)),
    `overflow_packets` UInt64 COMMENT 'Its packets that found no room in the flow map, so that no flow record tells of them' CODEC(T64, ZSTD(1)),
    `overflow_bytes` UInt64 COMMENT 'Bytes of overflow_packets' CODEC(T64, ZSTD(1)),
    `src` String ALIAS replaceRegexpOne(toString(addr), '^::ffff:([0-9.]+)$', '\\1') COMMENT 'addr as people write it: IPv4 without ::ffff:',
    INDEX addr_bloom addr TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (toStartOfFiveMinutes(time), agent, addr, time)
TTL toDateTime(time) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Early warning: what the busiest senders did during the drain interval so far. Rows of one interval repeat and grow: take max(), never sum(), over the rows of one agent and sender.'
