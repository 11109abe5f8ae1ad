-- What the collector knows of addresses beyond what agents see: country, autonomous system, named network, tags.
-- They are columns, as known when the row was stored; bytes a flow and what was not chosen: docs/store.md. Names of
-- autonomous systems are in a table of their own: as columns they took 1.4 times what the numbers do. flows_1m has none:
-- six any() more than double the time of its GROUP BY, 1060 to 2310 ns a row.

ALTER TABLE flows
    ADD COLUMN IF NOT EXISTS `src_country` LowCardinality(String) COMMENT 'Country of src_ip in two letters (ISO 3166-1 alpha-2), as the collector''s MMDB files knew it when the row was stored; empty if unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_asn` UInt32 COMMENT 'Number of the autonomous system of src_ip, as the collector''s MMDB files knew it; 0 if unknown. Its name is in as_names' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_network` LowCardinality(String) COMMENT 'Name of the network of src_ip: the longest prefix that the collector''s configuration names; empty for none' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `src_tags` LowCardinality(String) COMMENT 'Tags of src_ip by the collector''s configuration, sorted and separated by spaces: has(splitByChar('' '', src_tags), ''role=db'')' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_country` LowCardinality(String) COMMENT 'Country of dst_ip in two letters (ISO 3166-1 alpha-2), as the collector''s MMDB files knew it when the row was stored; empty if unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_asn` UInt32 COMMENT 'Number of the autonomous system of dst_ip, as the collector''s MMDB files knew it; 0 if unknown. Its name is in as_names' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_network` LowCardinality(String) COMMENT 'Name of the network of dst_ip: the longest prefix that the collector''s configuration names; empty for none' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `dst_tags` LowCardinality(String) COMMENT 'Tags of dst_ip by the collector''s configuration, sorted and separated by spaces: has(splitByChar('' '', dst_tags), ''role=db'')' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `agent_tags` LowCardinality(String) COMMENT 'Tags of the agent by the collector''s configuration, sorted and separated by spaces' CODEC(ZSTD(1))

-- step
CREATE TABLE IF NOT EXISTS as_names
(
    `asn` UInt32 COMMENT 'Number of the autonomous system',
    `name` String COMMENT 'Organisation that runs it, as the collector''s MMDB files name it: 128 bytes at most',
    `updated` DateTime64(3, 'UTC') COMMENT 'When it was stored; the latest name stands'
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY asn
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Names of the autonomous systems that stand in flows. Read it with FINAL.'

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
    max(f.tunnel_id) AS tunnel_id,
    max(f.src_country) AS src_country,
    max(f.src_asn) AS src_asn,
    max(f.src_network) AS src_network,
    max(f.src_tags) AS src_tags,
    max(f.dst_country) AS dst_country,
    max(f.dst_asn) AS dst_asn,
    max(f.dst_network) AS dst_network,
    max(f.dst_tags) AS dst_tags
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
    max(f.tunnel_id) AS tunnel_id,
    max(f.src_country) AS src_country,
    max(f.src_asn) AS src_asn,
    max(f.src_network) AS src_network,
    max(f.src_tags) AS src_tags,
    max(f.dst_country) AS dst_country,
    max(f.dst_asn) AS dst_asn,
    max(f.dst_network) AS dst_network,
    max(f.dst_tags) AS dst_tags
FROM flows AS f
WHERE f.start >= {since:DateTime('UTC')} AND f.start < {until:DateTime('UTC')}
    AND (f.src_ip = toIPv6({address:String}) OR f.dst_ip = toIPv6({address:String}))
GROUP BY f.agent, f.src_ip, f.src, f.src_port, f.dst_ip, f.dst, f.dst_port, f.proto
ORDER BY started DESC
COMMENT 'As conversations, with address on either side, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW endpoints AS
SELECT start, agent, src_ip AS ip, src AS address, 'client' AS role, src_country AS country, src_asn AS asn, src_network AS network, src_tags AS tags, dst_ip AS peer_ip,
    src_bytes AS sent_bytes, dst_bytes AS received_bytes, age_ms = 0 AS opened, conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH') AS failed
FROM flows
UNION ALL
SELECT start, agent, dst_ip, dst, 'server', dst_country, dst_asn, dst_network, dst_tags, src_ip,
    dst_bytes, src_bytes, age_ms = 0, conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')
FROM flows
COMMENT 'Each flow record twice, once for each of its two addresses, with what is known of that address: for sums by country, autonomous system, network or tag. Bound start, and each flow counts for both of its ends.'

-- step
CREATE OR REPLACE VIEW countries AS
SELECT
    e.country AS country,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= now() - INTERVAL 1 HOUR AND e.country != ''
GROUP BY country
ORDER BY bytes DESC
COMMENT 'Countries by the bytes that addresses there sent and received in the last hour, most first. Addresses whose country is unknown, private ones above all, are not here. Several agents that see the same traffic each count it.'

-- step
CREATE OR REPLACE VIEW countries_between AS
SELECT
    e.country AS country,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND e.country != ''
GROUP BY country
ORDER BY bytes DESC
COMMENT 'As countries, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW autonomous_systems AS
SELECT
    s.asn AS asn,
    n.name AS name,
    s.bytes AS bytes,
    s.sent_bytes AS sent_bytes,
    s.received_bytes AS received_bytes,
    s.addresses AS addresses,
    s.peers AS peers,
    s.connections_opened AS connections_opened,
    s.connections_accepted AS connections_accepted
FROM
(
    SELECT
        e.asn AS asn,
        sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
        sum(e.sent_bytes) AS sent_bytes,
        sum(e.received_bytes) AS received_bytes,
        uniq(e.ip) AS addresses,
        uniq(e.peer_ip) AS peers,
        countIf(e.opened AND e.role = 'client') AS connections_opened,
        countIf(e.opened AND e.role = 'server') AS connections_accepted
    FROM endpoints AS e
    WHERE start >= now() - INTERVAL 1 HOUR AND e.asn > 0
    GROUP BY asn
) AS s
LEFT JOIN (SELECT asn, name FROM as_names FINAL) AS n ON n.asn = s.asn
ORDER BY bytes DESC
COMMENT 'Autonomous systems by the bytes that their addresses sent and received in the last hour, most first, with the organisation that runs each. Addresses of no known system are not here.'

-- step
CREATE OR REPLACE VIEW autonomous_systems_between AS
SELECT
    s.asn AS asn,
    n.name AS name,
    s.bytes AS bytes,
    s.sent_bytes AS sent_bytes,
    s.received_bytes AS received_bytes,
    s.addresses AS addresses,
    s.peers AS peers,
    s.connections_opened AS connections_opened,
    s.connections_accepted AS connections_accepted
FROM
(
    SELECT
        e.asn AS asn,
        sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
        sum(e.sent_bytes) AS sent_bytes,
        sum(e.received_bytes) AS received_bytes,
        uniq(e.ip) AS addresses,
        uniq(e.peer_ip) AS peers,
        countIf(e.opened AND e.role = 'client') AS connections_opened,
        countIf(e.opened AND e.role = 'server') AS connections_accepted
    FROM endpoints AS e
    WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND e.asn > 0
    GROUP BY asn
) AS s
LEFT JOIN (SELECT asn, name FROM as_names FINAL) AS n ON n.asn = s.asn
ORDER BY bytes DESC
COMMENT 'As autonomous_systems, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW networks AS
SELECT
    e.network AS network,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= now() - INTERVAL 1 HOUR AND e.network != ''
GROUP BY network
ORDER BY bytes DESC
COMMENT 'Named networks by the bytes that their addresses sent and received in the last hour, most first; peers are addresses of any network. Name them in the section enrich of the collector.'

-- step
CREATE OR REPLACE VIEW networks_between AS
SELECT
    e.network AS network,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND e.network != ''
GROUP BY network
ORDER BY bytes DESC
COMMENT 'As networks, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW tags AS
SELECT
    arrayJoin(splitByChar(' ', toString(e.tags))) AS tag,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= now() - INTERVAL 1 HOUR AND e.tags != ''
GROUP BY tag
ORDER BY bytes DESC
COMMENT 'Tags by the bytes that addresses with them sent and received in the last hour, most first; an address counts for each of its tags.'

-- step
CREATE OR REPLACE VIEW tags_between AS
SELECT
    arrayJoin(splitByChar(' ', toString(e.tags))) AS tag,
    sum(e.sent_bytes) + sum(e.received_bytes) AS bytes,
    sum(e.sent_bytes) AS sent_bytes,
    sum(e.received_bytes) AS received_bytes,
    uniq(e.ip) AS addresses,
    uniq(e.peer_ip) AS peers,
    countIf(e.opened AND e.role = 'client') AS connections_opened,
    countIf(e.opened AND e.role = 'server') AS connections_accepted
FROM endpoints AS e
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')} AND e.tags != ''
GROUP BY tag
ORDER BY bytes DESC
COMMENT 'As tags, from since to until (UTC).'

-- step
CREATE OR REPLACE VIEW network_pairs AS
SELECT
    if(f.src_network = '', if(f.src_country = '', 'unknown', concat('country ', f.src_country)), f.src_network) AS src,
    if(f.dst_network = '', if(f.dst_country = '', 'unknown', concat('country ', f.dst_country)), f.dst_network) AS dst,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    countIf(f.age_ms = 0) AS opened,
    countIf(f.age_ms = 0 AND f.conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    uniq(f.src_ip) AS clients,
    uniq(f.dst_ip) AS servers
FROM flows AS f
WHERE start >= now() - INTERVAL 1 HOUR
GROUP BY src, dst
ORDER BY src_sent_bytes + dst_sent_bytes DESC
COMMENT 'Which network talked to which in the last hour, most bytes first: src opened the connections. Where an address is in no named network, its country stands for it, else unknown. Failed connections got no useful answer.'

-- step
CREATE OR REPLACE VIEW network_pairs_between AS
SELECT
    if(f.src_network = '', if(f.src_country = '', 'unknown', concat('country ', f.src_country)), f.src_network) AS src,
    if(f.dst_network = '', if(f.dst_country = '', 'unknown', concat('country ', f.dst_country)), f.dst_network) AS dst,
    sum(f.src_bytes) AS src_sent_bytes,
    sum(f.dst_bytes) AS dst_sent_bytes,
    countIf(f.age_ms = 0) AS opened,
    countIf(f.age_ms = 0 AND f.conn_state IN ('S0', 'REJ', 'RSTOS0', 'SH')) AS failed,
    uniq(f.src_ip) AS clients,
    uniq(f.dst_ip) AS servers
FROM flows AS f
WHERE start >= {since:DateTime('UTC')} AND start < {until:DateTime('UTC')}
GROUP BY src, dst
ORDER BY src_sent_bytes + dst_sent_bytes DESC
COMMENT 'As network_pairs, from since to until (UTC).'

-- step
ALTER TABLE conversations
    COMMENT COLUMN IF EXISTS `started` 'When it began',
    COMMENT COLUMN IF EXISTS `ended` 'When it ended, or was seen last',
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `src` 'Initiator, as people write it',
    COMMENT COLUMN IF EXISTS `src_port` 'Port of the initiator',
    COMMENT COLUMN IF EXISTS `dst` 'Responder, as people write it',
    COMMENT COLUMN IF EXISTS `dst_port` 'Port of the responder',
    COMMENT COLUMN IF EXISTS `proto` 'IANA protocol number: 6 TCP, 17 UDP',
    COMMENT COLUMN IF EXISTS `conn_state` 'State as Zeek defines it, at the last record',
    COMMENT COLUMN IF EXISTS `initiator` 'How the initiator is known',
    COMMENT COLUMN IF EXISTS `src_sent_bytes` 'Bytes sent by the initiator',
    COMMENT COLUMN IF EXISTS `dst_sent_bytes` 'Bytes sent by the responder',
    COMMENT COLUMN IF EXISTS `src_sent_packets` 'Packets sent by the initiator',
    COMMENT COLUMN IF EXISTS `dst_sent_packets` 'Packets sent by the responder',
    COMMENT COLUMN IF EXISTS `src_tcp_flags` 'TCP flags of the initiator, OR-ed',
    COMMENT COLUMN IF EXISTS `dst_tcp_flags` 'TCP flags of the responder, OR-ed',
    COMMENT COLUMN IF EXISTS `over` 'Whether the agent saw the end',
    COMMENT COLUMN IF EXISTS `records` 'Flow records that were summed',
    COMMENT COLUMN IF EXISTS `app` 'Application protocol by its content',
    COMMENT COLUMN IF EXISTS `server_name` 'Name that was asked for; its words are the sender''s',
    COMMENT COLUMN IF EXISTS `src_process` 'Process of the initiator, where it is local',
    COMMENT COLUMN IF EXISTS `src_unit` 'systemd unit of src_process',
    COMMENT COLUMN IF EXISTS `src_container` 'Container id of src_process',
    COMMENT COLUMN IF EXISTS `dst_process` 'Process of the responder, where it is local',
    COMMENT COLUMN IF EXISTS `dst_unit` 'systemd unit of dst_process',
    COMMENT COLUMN IF EXISTS `dst_container` 'Container id of dst_process',
    COMMENT COLUMN IF EXISTS `handshake_ms` 'Milliseconds of the TCP handshake, 0 if unknown',
    COMMENT COLUMN IF EXISTS `rtt_ms` 'Last known smoothed round-trip time in milliseconds, 0 if unknown',
    COMMENT COLUMN IF EXISTS `retransmits` 'TCP segments that were sent again',
    COMMENT COLUMN IF EXISTS `drops` 'Packets that the kernel of the agent''s host dropped',
    COMMENT COLUMN IF EXISTS `drop_reason` 'The kernel''s name of the reason of drops',
    COMMENT COLUMN IF EXISTS `interfaces` 'Interfaces of the host that saw it',
    COMMENT COLUMN IF EXISTS `netns` 'Network namespace, empty for the agent''s own',
    COMMENT COLUMN IF EXISTS `tunnel` 'Innermost encapsulation, empty for none',
    COMMENT COLUMN IF EXISTS `tunnel_id` 'VNI or GRE key',
    COMMENT COLUMN IF EXISTS `src_country` 'Country of the initiator, in two letters',
    COMMENT COLUMN IF EXISTS `src_asn` 'Autonomous system of the initiator',
    COMMENT COLUMN IF EXISTS `src_network` 'Named network of the initiator',
    COMMENT COLUMN IF EXISTS `src_tags` 'Tags of the initiator, separated by spaces',
    COMMENT COLUMN IF EXISTS `dst_country` 'Country of the responder, in two letters',
    COMMENT COLUMN IF EXISTS `dst_asn` 'Autonomous system of the responder',
    COMMENT COLUMN IF EXISTS `dst_network` 'Named network of the responder',
    COMMENT COLUMN IF EXISTS `dst_tags` 'Tags of the responder, separated by spaces'

-- step
ALTER TABLE endpoints
    COMMENT COLUMN IF EXISTS `start` 'Time of the first packet of the record',
    COMMENT COLUMN IF EXISTS `agent` 'Agent that saw it',
    COMMENT COLUMN IF EXISTS `ip` 'Address',
    COMMENT COLUMN IF EXISTS `address` 'Address as people write it. Filter by ip',
    COMMENT COLUMN IF EXISTS `role` 'client: the address is the initiator; server: the responder',
    COMMENT COLUMN IF EXISTS `country` 'Country of the address, in two letters',
    COMMENT COLUMN IF EXISTS `asn` 'Autonomous system of the address',
    COMMENT COLUMN IF EXISTS `network` 'Named network of the address',
    COMMENT COLUMN IF EXISTS `tags` 'Tags of the address, separated by spaces',
    COMMENT COLUMN IF EXISTS `peer_ip` 'The other address',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes that the address sent',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes that it received',
    COMMENT COLUMN IF EXISTS `opened` 'Whether the conversation began with this record',
    COMMENT COLUMN IF EXISTS `failed` 'Whether it has no useful answer so far'

-- step
ALTER TABLE countries
    COMMENT COLUMN IF EXISTS `country` 'Country in two letters (ISO 3166-1 alpha-2)',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes sent and received',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent by its addresses',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received by them',
    COMMENT COLUMN IF EXISTS `addresses` 'Distinct addresses',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses they talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Connections that they opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Connections that others opened to them'

-- step
ALTER TABLE autonomous_systems
    COMMENT COLUMN IF EXISTS `asn` 'Number of the autonomous system',
    COMMENT COLUMN IF EXISTS `name` 'Organisation that runs it',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes sent and received',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent by its addresses',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received by them',
    COMMENT COLUMN IF EXISTS `addresses` 'Distinct addresses',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses they talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Connections that they opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Connections that others opened to them'

-- step
ALTER TABLE networks
    COMMENT COLUMN IF EXISTS `network` 'Name of the network',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes sent and received',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent by its addresses',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received by them',
    COMMENT COLUMN IF EXISTS `addresses` 'Distinct addresses',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses they talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Connections that they opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Connections that others opened to them'

-- step
ALTER TABLE tags
    COMMENT COLUMN IF EXISTS `tag` 'Tag',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes sent and received',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent by its addresses',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received by them',
    COMMENT COLUMN IF EXISTS `addresses` 'Distinct addresses',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses they talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Connections that they opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Connections that others opened to them'

-- step
ALTER TABLE network_pairs
    COMMENT COLUMN IF EXISTS `src` 'Network, or country, of the initiators',
    COMMENT COLUMN IF EXISTS `dst` 'Network, or country, of the responders',
    COMMENT COLUMN IF EXISTS `src_sent_bytes` 'Bytes sent by the initiators',
    COMMENT COLUMN IF EXISTS `dst_sent_bytes` 'Bytes sent by the responders',
    COMMENT COLUMN IF EXISTS `opened` 'Connections that began',
    COMMENT COLUMN IF EXISTS `failed` 'Connections that began and got no useful answer',
    COMMENT COLUMN IF EXISTS `clients` 'Distinct initiators',
    COMMENT COLUMN IF EXISTS `servers` 'Distinct responders'
