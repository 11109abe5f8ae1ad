-- How runs of agents ended, and how long nobody watched between them.

ALTER TABLE coverage
    ADD COLUMN IF NOT EXISTS `last_of_run` Bool COMMENT 'Whether the run ended in order with this batch: everything that it counted is in this one and those before it' AFTER sequence

-- step
CREATE OR REPLACE VIEW agent_runs AS
SELECT
    agent,
    version,
    boot,
    began,
    last_drain,
    multiIf(in_order, 'ended', followed, 'broken off', 'running') AS state,
    missing AS missing_batches,
    if(preceded, greatest(0, dateDiff('millisecond', drain_before, began)) / 1000, NULL) AS unwatched_seconds
FROM
(
    SELECT
        *,
        row_number() OVER runs > 1 AS preceded,
        row_number() OVER runs < count() OVER (PARTITION BY agent) AS followed,
        lagInFrame(last_drain) OVER runs AS drain_before
    FROM
    (
        SELECT
            agent,
            boot,
            argMaxIf(agent_version, time, interval_ms > 0) AS version,
            minIf(time - toIntervalMillisecond(interval_ms), interval_ms > 0) AS began,
            maxIf(time, interval_ms > 0) AS last_drain,
            max(last_of_run) AS in_order,
            max(sequence) - min(sequence) + 1 - uniqExact(sequence) AS missing
        FROM coverage
        WHERE time >= now() - INTERVAL 7 DAY
        GROUP BY agent, boot
        HAVING countIf(interval_ms > 0) > 0
    )
    WINDOW runs AS (PARTITION BY agent ORDER BY began, boot ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
ORDER BY began DESC, agent
COMMENT 'Each run of an agent in the last 7 days, latest first. state: ended (in order: all that it counted was sent), broken off (killed, crashed, or its last batches are lost or under way: what passed after last_drain is in no record), running (no later run is known; see last_heartbeat of agents). unwatched_seconds is the time from the last drain of the run before, empty for the first: nobody recorded what passed in it.'
