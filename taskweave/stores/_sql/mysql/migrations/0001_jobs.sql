-- One row, read first by every verb. `floor` keeps store time from running back and is written by maintain alone.
-- `rerank_after` is set while the ranks are being rewritten after a change of the aging setting: the last seq done.
-- The row itself is written last, when all that it stands for is there: DDL cannot be rolled back.
CREATE TABLE IF NOT EXISTS taskweave_meta (
    one TINYINT NOT NULL PRIMARY KEY,
    schema_version INT NOT NULL,
    floor BIGINT NOT NULL,
    aging_us BIGINT,
    rerank_after BIGINT
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS taskweave_pause (
    queue VARCHAR(200) NOT NULL PRIMARY KEY
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- What every job of one claim would repeat. `seqs` are its jobs, so that no index over running jobs is needed to
-- answer a repeated claim. `until` is when to look whether any of them still runs.
CREATE TABLE IF NOT EXISTS taskweave_claim (
    number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    claim_id VARCHAR(255) NOT NULL,
    member VARCHAR(255) NOT NULL,
    until BIGINT NOT NULL,
    seqs MEDIUMTEXT CHARACTER SET ascii NOT NULL,
    UNIQUE INDEX claim_id (claim_id),
    INDEX claim_until (until, number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- state: 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 failed, 5 cancelled, 6 expired, 7 lost.
-- aside: 1 for a ready job that a claim met expired, so that claims step over it once.
-- spec_rest, life_rest, cancel and progress are JSON texts in ASCII, NULL for a plain job.
-- unique_key is the key that this row was last to take; whether it still holds it, core.life says.
-- chore: 0 drop the result, 1 prune the row, at chore_at.
--
-- There are no partial indexes here, and each index that a step changes costs more than the row itself. So the columns
-- from `ready` on stand in for them: each is NULL for the rows that its index is not about, and a plain job changes one
-- index when it is claimed (job_ready) and one when it succeeds (job_agenda). Leases have no index: a claim's `until`
-- is never later than the first of its leases to end.
--   ready      1 may be claimed, 2 set aside
--   waiting    1 scheduled
--   agenda     what is next for this row, at agenda_at: 0 and 1 its chore, 2 its deadline; 3 its cancellation was asked
--              for, and agenda_at is its claim
--   ended_as   the state in which it ended
--   bad_end    likewise, but for success
CREATE TABLE IF NOT EXISTS taskweave_job (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    state TINYINT NOT NULL,
    id VARCHAR(200) NOT NULL,
    queue VARCHAR(200) NOT NULL,
    task VARCHAR(200) NOT NULL,
    aside TINYINT NOT NULL DEFAULT 0,
    fragile TINYINT NOT NULL,
    rank_a BIGINT NOT NULL,
    rank_b BIGINT NOT NULL,
    run_at BIGINT NOT NULL,
    attempt INT NOT NULL DEFAULT 0,
    fence BIGINT NOT NULL DEFAULT 0,
    spec_rest MEDIUMTEXT CHARACTER SET ascii,
    life_rest MEDIUMTEXT CHARACTER SET ascii,
    cancel MEDIUMTEXT CHARACTER SET ascii,
    progress MEDIUMTEXT CHARACTER SET ascii,
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    expires_at BIGINT,
    claim BIGINT,
    lease_until BIGINT,
    started_at BIGINT,
    settled_fence BIGINT,
    settled_digest BIGINT,
    finished_at BIGINT,
    chore TINYINT,
    chore_at BIGINT,
    prune_at BIGINT,
    ttl_us BIGINT NOT NULL,
    keep_us BIGINT NOT NULL,
    window_until BIGINT,
    unique_key VARCHAR(500),
    result LONGBLOB,
    payload LONGBLOB NOT NULL,
    ready TINYINT AS (CASE WHEN state = 1 THEN 1 + aside END) STORED,
    waiting TINYINT AS (CASE WHEN state = 0 THEN 1 END) STORED,
    agenda TINYINT AS (
        CASE
            WHEN state > 2 THEN chore
            WHEN state < 2 AND expires_at IS NOT NULL THEN 2
            WHEN cancel IS NOT NULL THEN 3
        END
    ) STORED,
    agenda_at BIGINT AS (
        CASE
            WHEN state > 2 THEN chore_at
            WHEN state < 2 AND expires_at IS NOT NULL THEN expires_at
            WHEN cancel IS NOT NULL THEN claim
        END
    ) STORED,
    ended_as TINYINT AS (CASE WHEN state > 2 THEN state END) STORED,
    bad_end TINYINT AS (CASE WHEN state > 3 THEN state END) STORED,
    UNIQUE INDEX job_id (id),
    UNIQUE INDEX job_unique (unique_key),
    INDEX job_ready (ready, queue, task, fragile, rank_a, rank_b, seq, run_at),
    INDEX job_due (waiting, queue, run_at, seq),
    INDEX job_agenda (agenda, agenda_at, seq, ended_as, queue),
    INDEX job_bad_end (bad_end, finished_at, seq)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

INSERT IGNORE INTO taskweave_meta (one, schema_version, floor) VALUES (1, 1, 0);
