-- Names of autonomous systems are in several shards of a cluster, and FINAL looks at one shard at a time: each name has to
-- be found once, or the sums are told twice. A view that is made anew loses its columns' comments.

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
LEFT JOIN (SELECT asn, argMax(name, updated) AS name FROM as_names GROUP BY asn) AS n ON n.asn = s.asn
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
LEFT JOIN (SELECT asn, argMax(name, updated) AS name FROM as_names GROUP BY asn) AS n ON n.asn = s.asn
ORDER BY bytes DESC
COMMENT 'As autonomous_systems, from since to until (UTC).'

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
