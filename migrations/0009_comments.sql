-- What each column of a view means, beside the comments of the tables. A view that is made anew loses these: comment it again.
-- ClickHouse keeps no columns of views with parameters: those are the columns of their siblings, or stand in the comment of the view.

ALTER TABLE agent_runs
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `version` 'Build of the agent',
    COMMENT COLUMN IF EXISTS `boot` 'One run of the agent',
    COMMENT COLUMN IF EXISTS `began` 'Start of the first drain interval',
    COMMENT COLUMN IF EXISTS `last_drain` 'End of the last drain interval',
    COMMENT COLUMN IF EXISTS `state` 'ended, broken off or running',
    COMMENT COLUMN IF EXISTS `missing_batches` 'Batches of the run that are not stored',
    COMMENT COLUMN IF EXISTS `unwatched_seconds` 'Seconds since the last drain of the run before, empty for the first run'

-- step
ALTER TABLE agents
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `version` 'Build of the agent',
    COMMENT COLUMN IF EXISTS `last_heartbeat` 'End of the last drain interval',
    COMMENT COLUMN IF EXISTS `silent_seconds` 'Seconds since last_heartbeat',
    COMMENT COLUMN IF EXISTS `coverage_percent` 'Share of the packets taken that stand in records or are not IP, empty without traffic',
    COMMENT COLUMN IF EXISTS `seen_packets` 'Packets that passed the attach points',
    COMMENT COLUMN IF EXISTS `overflow_packets` 'Packets that found no room in the flow map',
    COMMENT COLUMN IF EXISTS `skipped_packets` 'Packets that sampling left out',
    COMMENT COLUMN IF EXISTS `unaccounted_packets` 'Seen less everything that is accounted for: must be 0',
    COMMENT COLUMN IF EXISTS `flows` 'Flow records',
    COMMENT COLUMN IF EXISTS `losses` 'What the agent had to give up since its start, by counter',
    COMMENT COLUMN IF EXISTS `starts` 'Runs of the agent in the last day'

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
    COMMENT COLUMN IF EXISTS `tunnel_id` 'VNI or GRE key'

-- step
ALTER TABLE early_warnings
    COMMENT COLUMN IF EXISTS `time` 'End of the second',
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `packets_per_second` 'Packets a second over all attach points',
    COMMENT COLUMN IF EXISTS `bytes_per_second` 'Bytes a second over all attach points',
    COMMENT COLUMN IF EXISTS `syn_packets` 'TCP packets with SYN and without ACK',
    COMMENT COLUMN IF EXISTS `syn_ack_packets` 'TCP packets with SYN and ACK',
    COMMENT COLUMN IF EXISTS `rst_packets` 'TCP packets with RST',
    COMMENT COLUMN IF EXISTS `new_flows` 'Entries of the flow map that began',
    COMMENT COLUMN IF EXISTS `overflow_packets` 'Packets that found no room in the flow map',
    COMMENT COLUMN IF EXISTS `top_sources` 'Three senders with the most distinct targets, with that number'

-- step
ALTER TABLE findings_evidence
    COMMENT COLUMN IF EXISTS `finding` 'Identifier of the finding',
    COMMENT COLUMN IF EXISTS `kind` 'What was found',
    COMMENT COLUMN IF EXISTS `severity` 'info, low, medium, high or critical',
    COMMENT COLUMN IF EXISTS `src` 'Initiating address, empty if the finding is not about one',
    COMMENT COLUMN IF EXISTS `dst` 'Responding address, empty if the finding is not about one',
    COMMENT COLUMN IF EXISTS `port` 'Responder port, 0 if the finding is not about one',
    COMMENT COLUMN IF EXISTS `host` 'Agent that saw it, empty if several did',
    COMMENT COLUMN IF EXISTS `window_start` 'Start of what it covers',
    COMMENT COLUMN IF EXISTS `window_end` 'End of what it covers',
    COMMENT COLUMN IF EXISTS `summary` 'One sentence',
    COMMENT COLUMN IF EXISTS `incident` 'Incident that the finding belongs to',
    COMMENT COLUMN IF EXISTS `evidence` 'Identifier of the fact within the finding',
    COMMENT COLUMN IF EXISTS `metric` 'What was measured',
    COMMENT COLUMN IF EXISTS `value` 'Its value',
    COMMENT COLUMN IF EXISTS `unit` 'Unit of value',
    COMMENT COLUMN IF EXISTS `baseline` 'What is usual, empty if unknown',
    COMMENT COLUMN IF EXISTS `query` 'SQL that shows the fact'

-- step
ALTER TABLE latest_deliveries
    COMMENT COLUMN IF EXISTS `report` 'Report that is delivered',
    COMMENT COLUMN IF EXISTS `title` 'Title of the report',
    COMMENT COLUMN IF EXISTS `endpoint` 'Name of the webhook endpoint',
    COMMENT COLUMN IF EXISTS `state` 'pending, delivered, retrying or failed',
    COMMENT COLUMN IF EXISTS `attempts` 'Attempts so far',
    COMMENT COLUMN IF EXISTS `http_status` 'Status of the last answer, 0 if there was none',
    COMMENT COLUMN IF EXISTS `error` 'Why the last attempt failed',
    COMMENT COLUMN IF EXISTS `next_attempt` 'When it is tried again, if retrying',
    COMMENT COLUMN IF EXISTS `updated` 'Time of the last attempt'

-- step
ALTER TABLE latest_findings
    COMMENT COLUMN IF EXISTS `id` 'Identifier',
    COMMENT COLUMN IF EXISTS `detector` 'Detector that found it',
    COMMENT COLUMN IF EXISTS `kind` 'What was found',
    COMMENT COLUMN IF EXISTS `src` 'Initiating address, empty if the finding is not about one',
    COMMENT COLUMN IF EXISTS `dst` 'Responding address, empty if the finding is not about one',
    COMMENT COLUMN IF EXISTS `port` 'Responder port, 0 if the finding is not about one',
    COMMENT COLUMN IF EXISTS `host` 'Agent that saw it, empty if several did',
    COMMENT COLUMN IF EXISTS `window_start` 'Start of what it covers',
    COMMENT COLUMN IF EXISTS `window_end` 'End of what it covers',
    COMMENT COLUMN IF EXISTS `score` '0 to 1, comparable within one detector',
    COMMENT COLUMN IF EXISTS `p_value` 'Probability under the detector''s null model, 1 where it has none',
    COMMENT COLUMN IF EXISTS `severity` 'info, low, medium, high or critical',
    COMMENT COLUMN IF EXISTS `summary` 'One sentence',
    COMMENT COLUMN IF EXISTS `incident` 'Incident that the finding belongs to',
    COMMENT COLUMN IF EXISTS `evidence_count` 'Facts in findings_evidence'

-- step
ALTER TABLE latest_incidents
    COMMENT COLUMN IF EXISTS `id` 'Identifier',
    COMMENT COLUMN IF EXISTS `status` 'open while findings still arrive, else closed',
    COMMENT COLUMN IF EXISTS `severity` 'info, low, medium, high or critical',
    COMMENT COLUMN IF EXISTS `title` 'One line',
    COMMENT COLUMN IF EXISTS `kinds` 'Kinds of its findings',
    COMMENT COLUMN IF EXISTS `entities` 'Addresses that its findings are about',
    COMMENT COLUMN IF EXISTS `findings` 'Number of findings',
    COMMENT COLUMN IF EXISTS `started` 'Earliest start of a finding',
    COMMENT COLUMN IF EXISTS `ended` 'Latest end of a finding so far',
    COMMENT COLUMN IF EXISTS `opened` 'When the analyzer opened it',
    COMMENT COLUMN IF EXISTS `lasted_seconds` 'Seconds from started to ended'

-- step
ALTER TABLE latest_reports
    COMMENT COLUMN IF EXISTS `id` 'Identifier',
    COMMENT COLUMN IF EXISTS `kind` 'incident or periodic',
    COMMENT COLUMN IF EXISTS `subject` 'Incident id, or the schedule''s name',
    COMMENT COLUMN IF EXISTS `window_start` 'Start of what it covers',
    COMMENT COLUMN IF EXISTS `window_end` 'End of what it covers',
    COMMENT COLUMN IF EXISTS `severity` 'info, low, medium, high or critical',
    COMMENT COLUMN IF EXISTS `title` 'One line',
    COMMENT COLUMN IF EXISTS `author` '''template'', or the model that worded it',
    COMMENT COLUMN IF EXISTS `note` 'Why the model''s words were not used, if so',
    COMMENT COLUMN IF EXISTS `created` 'When it was made',
    COMMENT COLUMN IF EXISTS `markdown` 'The report as Markdown'

-- step
ALTER TABLE lookups
    COMMENT COLUMN IF EXISTS `name` 'DNS name that was asked for',
    COMMENT COLUMN IF EXISTS `type` 'Type of the question',
    COMMENT COLUMN IF EXISTS `questions` 'Questions',
    COMMENT COLUMN IF EXISTS `answered` 'Answered with NOERROR',
    COMMENT COLUMN IF EXISTS `no_such_name` 'Answered with NXDOMAIN',
    COMMENT COLUMN IF EXISTS `errors` 'Answered with another code',
    COMMENT COLUMN IF EXISTS `unanswered` 'Without an answer',
    COMMENT COLUMN IF EXISTS `clients` 'Distinct addresses that asked',
    COMMENT COLUMN IF EXISTS `median_ms` 'Median milliseconds from the first request to the first answer',
    COMMENT COLUMN IF EXISTS `p95_ms` '95th percentile of the same, in milliseconds',
    COMMENT COLUMN IF EXISTS `first_seen` 'When it was seen first',
    COMMENT COLUMN IF EXISTS `last_seen` 'When it was seen last'

-- step
ALTER TABLE missing_batches
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `boot` 'One run of the agent',
    COMMENT COLUMN IF EXISTS `since` 'Time of the first batch',
    COMMENT COLUMN IF EXISTS `until` 'Time of the last batch',
    COMMENT COLUMN IF EXISTS `missing` 'Numbers between the first and the last batch that are not there'

-- step
ALTER TABLE new_pairs
    COMMENT COLUMN IF EXISTS `src` 'Initiator, as people write it',
    COMMENT COLUMN IF EXISTS `dst` 'Responder, as people write it',
    COMMENT COLUMN IF EXISTS `port` 'Port of the responder',
    COMMENT COLUMN IF EXISTS `proto` 'IANA protocol number: 6 TCP, 17 UDP',
    COMMENT COLUMN IF EXISTS `first_seen` 'When it was seen first',
    COMMENT COLUMN IF EXISTS `last_seen` 'When it was seen last',
    COMMENT COLUMN IF EXISTS `src_sent_bytes` 'Bytes sent by the initiator',
    COMMENT COLUMN IF EXISTS `dst_sent_bytes` 'Bytes sent by the responder',
    COMMENT COLUMN IF EXISTS `opened` 'Connections that began',
    COMMENT COLUMN IF EXISTS `seen_by` 'Agents that saw it, 10 at most'

-- step
ALTER TABLE path_health
    COMMENT COLUMN IF EXISTS `src` 'Initiator, as people write it',
    COMMENT COLUMN IF EXISTS `dst` 'Responder, as people write it',
    COMMENT COLUMN IF EXISTS `packets` 'Packets both ways',
    COMMENT COLUMN IF EXISTS `src_retransmit_percent` 'Share of the initiator''s packets that were sent again',
    COMMENT COLUMN IF EXISTS `dst_retransmit_percent` 'Share of the responder''s packets that were sent again',
    COMMENT COLUMN IF EXISTS `median_handshake_ms` 'Median milliseconds of the TCP handshake, empty if unknown',
    COMMENT COLUMN IF EXISTS `median_rtt_ms` 'Median round-trip time in milliseconds, empty if unknown',
    COMMENT COLUMN IF EXISTS `p95_rtt_ms` '95th percentile of the round-trip time in milliseconds',
    COMMENT COLUMN IF EXISTS `src_zero_windows` 'Times the initiator closed its receive window',
    COMMENT COLUMN IF EXISTS `dst_zero_windows` 'Times the responder closed its receive window',
    COMMENT COLUMN IF EXISTS `resets` 'TCP segments with RST',
    COMMENT COLUMN IF EXISTS `drops` 'Packets that a kernel dropped, by reason',
    COMMENT COLUMN IF EXISTS `seen_by` 'Number of agents that saw the pair'

-- step
ALTER TABLE processes
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `process` 'Name of the process',
    COMMENT COLUMN IF EXISTS `unit` 'Its systemd unit',
    COMMENT COLUMN IF EXISTS `container` 'Its container id',
    COMMENT COLUMN IF EXISTS `role` 'client: it opened the connections; server: it accepted them',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received',
    COMMENT COLUMN IF EXISTS `connections` 'Connections that began',
    COMMENT COLUMN IF EXISTS `failed` 'Connections that began and got no useful answer',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses it talked with',
    COMMENT COLUMN IF EXISTS `processes` 'Distinct process ids',
    COMMENT COLUMN IF EXISTS `names` 'The three servers asked for most',
    COMMENT COLUMN IF EXISTS `retransmits` 'TCP segments that were sent again',
    COMMENT COLUMN IF EXISTS `drops` 'Packets of it that the kernel dropped'

-- step
ALTER TABLE services
    COMMENT COLUMN IF EXISTS `server` 'Address of the server',
    COMMENT COLUMN IF EXISTS `port` 'Port of the responder',
    COMMENT COLUMN IF EXISTS `proto` 'IANA protocol number: 6 TCP, 17 UDP',
    COMMENT COLUMN IF EXISTS `clients` 'Distinct addresses that asked',
    COMMENT COLUMN IF EXISTS `opened` 'Connections that began',
    COMMENT COLUMN IF EXISTS `failed` 'Connections that began and got no useful answer',
    COMMENT COLUMN IF EXISTS `request_bytes` 'Bytes sent by clients',
    COMMENT COLUMN IF EXISTS `response_bytes` 'Bytes sent by the server',
    COMMENT COLUMN IF EXISTS `seen_by` 'Agents that saw it, 10 at most'

-- step
ALTER TABLE tls_servers
    COMMENT COLUMN IF EXISTS `name` 'Name that clients asked for, empty for none',
    COMMENT COLUMN IF EXISTS `port` 'Port of the responder',
    COMMENT COLUMN IF EXISTS `app` 'tls or quic',
    COMMENT COLUMN IF EXISTS `conversations` 'Conversations',
    COMMENT COLUMN IF EXISTS `clients` 'Distinct addresses that asked',
    COMMENT COLUMN IF EXISTS `servers` 'Distinct addresses that answered under the name',
    COMMENT COLUMN IF EXISTS `alpn` 'First protocols that clients offered, 5 at most',
    COMMENT COLUMN IF EXISTS `fingerprints` 'Distinct JA4 fingerprints of clients',
    COMMENT COLUMN IF EXISTS `top_fingerprints` 'The three most frequent of them',
    COMMENT COLUMN IF EXISTS `median_ms` 'Median milliseconds from the first request to the first answer',
    COMMENT COLUMN IF EXISTS `p95_ms` '95th percentile of the same, in milliseconds'

-- step
ALTER TABLE top_sources
    COMMENT COLUMN IF EXISTS `source` 'Sender, or all others',
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `targets` 'Most distinct (address, protocol, port) tried in one drain interval',
    COMMENT COLUMN IF EXISTS `new_flows` 'Entries of the flow map that began',
    COMMENT COLUMN IF EXISTS `overflow_packets` 'Packets that found no room in the flow map',
    COMMENT COLUMN IF EXISTS `overflow_bytes` 'Bytes of overflow_packets',
    COMMENT COLUMN IF EXISTS `busiest` 'When it tried the most targets',
    COMMENT COLUMN IF EXISTS `first_seen` 'When it was seen first',
    COMMENT COLUMN IF EXISTS `last_seen` 'When it was seen last'

-- step
ALTER TABLE top_talkers
    COMMENT COLUMN IF EXISTS `address` 'Address',
    COMMENT COLUMN IF EXISTS `bytes` 'Bytes sent and received',
    COMMENT COLUMN IF EXISTS `sent_bytes` 'Bytes sent',
    COMMENT COLUMN IF EXISTS `received_bytes` 'Bytes received',
    COMMENT COLUMN IF EXISTS `packets` 'Packets sent and received',
    COMMENT COLUMN IF EXISTS `peers` 'Distinct addresses it talked with',
    COMMENT COLUMN IF EXISTS `connections_opened` 'Connections it opened',
    COMMENT COLUMN IF EXISTS `connections_accepted` 'Connections others opened to it'

-- step
ALTER TABLE unrecorded
    COMMENT COLUMN IF EXISTS `agent` 'Agent',
    COMMENT COLUMN IF EXISTS `reason` 'Why there is no record of their own',
    COMMENT COLUMN IF EXISTS `unrecorded_packets` 'Packets',
    COMMENT COLUMN IF EXISTS `percent_of_seen` 'Share of the packets that the agent saw',
    COMMENT COLUMN IF EXISTS `interfaces` 'Interfaces, 10 at most'

-- step
ALTER TABLE peers_of MODIFY COMMENT 'Who talked with address from since to until (UTC, by the minute): one row per peer, side (opened by address, or by peer), responder port and proto (IANA number), with first_seen and last_seen, sent_to_peer_bytes and received_from_peer_bytes, connections opened, and those of them that got no useful answer (failed).'

-- step
ALTER TABLE lookups_of MODIFY COMMENT 'Who asked for name or a name below it from since to until (UTC), by DNS, TLS, HTTP or QUIC (app): client (src) with src_process, src_unit and src_container where known, server (dst, dst_port), dns_type and dns_rcode of DNS, the number of conversations with first_seen and last_seen, and the agents that saw them (seen_by, 10 at most).'
