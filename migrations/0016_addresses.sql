-- What is known of addresses is in flows alone. A join in top_talkers would more than double its time for everybody (docs/store.md), so it is a view
-- to join with. The rest says what was not said: which rows the rollups leave out, and how far back minutes are kept.

CREATE OR REPLACE VIEW addresses AS
SELECT
    replaceRegexpOne(toString(k.ip), '^::ffff:([0-9.]+)$', '\\1') AS address,
    k.known.1 AS country,
    k.known.2 AS asn,
    n.name AS as_name,
    k.known.3 AS network,
    k.known.4 AS tags
FROM
(
    SELECT e.ip AS ip, argMax((e.country, e.asn, e.network, e.tags), e.start) AS known
    FROM endpoints AS e
    WHERE e.start >= now() - INTERVAL 1 HOUR AND (e.country != '' OR e.asn > 0 OR e.network != '' OR e.tags != '')
    GROUP BY e.ip
) AS k
LEFT JOIN (SELECT asn, argMax(name, updated) AS name FROM as_names GROUP BY asn) AS n ON n.asn = k.known.2
COMMENT 'What is known of the addresses of the last hour, one row each, by their newest flow of which something was known: to join with other views by address. Addresses of which nothing is known are not here.'

-- step
CREATE OR REPLACE VIEW addresses_between AS
SELECT
    replaceRegexpOne(toString(k.ip), '^::ffff:([0-9.]+)$', '\\1') AS address,
    k.known.1 AS country,
    k.known.2 AS asn,
    n.name AS as_name,
    k.known.3 AS network,
    k.known.4 AS tags
FROM
(
    SELECT e.ip AS ip, argMax((e.country, e.asn, e.network, e.tags), e.start) AS known
    FROM endpoints AS e
    WHERE e.start >= {since:DateTime('UTC')} AND e.start < {until:DateTime('UTC')} AND (e.country != '' OR e.asn > 0 OR e.network != '' OR e.tags != '')
    GROUP BY e.ip
) AS k
LEFT JOIN (SELECT asn, argMax(name, updated) AS name FROM as_names GROUP BY asn) AS n ON n.asn = k.known.2
COMMENT 'As addresses, from since to until (UTC).'

-- step
ALTER TABLE addresses
    COMMENT COLUMN IF EXISTS `address` 'Address, as people write it',
    COMMENT COLUMN IF EXISTS `country` 'Country, ISO 3166-1 alpha-2; empty: not known',
    COMMENT COLUMN IF EXISTS `asn` 'Number of its autonomous system; 0: not known',
    COMMENT COLUMN IF EXISTS `as_name` 'Organisation that runs that system',
    COMMENT COLUMN IF EXISTS `network` 'Name of its network',
    COMMENT COLUMN IF EXISTS `tags` 'Its tags, sorted, separated by spaces'

-- step
ALTER TABLE peers_of MODIFY COMMENT 'Who talked with address from since to until (UTC, by the minute): one row per peer, side (opened by address, or by peer), responder port and proto (IANA number), with first_seen and last_seen, sent_to_peer_bytes and received_from_peer_bytes, connections opened, and those of them that got no useful answer (failed). Minutes are kept for 30 days (store.retention_days of flows_1m), hours for 90: before that only the whole hours from since to until are here, so begin and end at full hours.'

-- step
ALTER TABLE processes_5m
    COMMENT COLUMN IF EXISTS `connections` 'Conversations that began, also those of which the host dropped every packet, which flows_1m leaves out'

-- step
ALTER TABLE flows_1m MODIFY COMMENT 'Flows summed per minute, agent, initiator, responder, responder port and protocol, but for records without packets: what the host dropped before any interface saw it, and imported records that count none. Always aggregate with sum(): rows of one key may not be merged yet.'
