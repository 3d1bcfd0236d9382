-- One row, read first by every verb. `floor` keeps store time from running back and is written by maintain alone.
-- `rerank_after` is set while the ranks are being rewritten after a change of the aging setting: the last seq done.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    schema_version INTEGER NOT NULL,
    next_seq INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    aging_us INTEGER,
    rerank_after INTEGER
) STRICT;

INSERT INTO meta (one, schema_version, next_seq, jobs, floor) VALUES (1, 1, 1, 0, 0);

-- What every job of one claim would repeat. `seqs` are its jobs, so that no index over running jobs is needed to
-- answer a repeated claim. `until` is when to look whether any of them still runs.
CREATE TABLE claim (
    number INTEGER PRIMARY KEY,
    claim_id TEXT NOT NULL UNIQUE,
    member TEXT NOT NULL,
    until INTEGER NOT NULL,
    seqs TEXT NOT NULL
) STRICT;

CREATE INDEX claim_until ON claim (until, number);

CREATE TABLE pause (queue TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

-- state: 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 failed, 5 cancelled, 6 expired, 7 lost.
-- aside: 1 for a ready job that a claim met expired, so that claims step over it once.
-- spec_rest and life_rest are JSON objects of what differs from the defaults, NULL for a plain job.
-- unique_key is the key that this row was last to take; whether it still holds it, core.life says. chore: 0 drop the result, 1 prune the row, at chore_at.
-- The order of the columns is that of their use: SQLite decodes a row from its beginning.
CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    aside INTEGER NOT NULL,
    fragile INTEGER NOT NULL,
    rank_a INTEGER NOT NULL,
    rank_b INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    spec_rest TEXT,
    life_rest TEXT,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    expires_at INTEGER,
    claim INTEGER,
    lease_until INTEGER,
    started_at INTEGER,
    cancel_asked INTEGER,
    settled_fence INTEGER,
    settled_digest INTEGER,
    finished_at INTEGER,
    chore INTEGER,
    chore_at INTEGER,
    prune_at INTEGER,
    unique_key TEXT,
    result BLOB,
    payload BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX job_id ON job (id);

CREATE INDEX job_ready ON job (queue, task, fragile, rank_a, rank_b, seq, run_at) WHERE state = 1 AND aside = 0;

CREATE INDEX job_aside ON job (queue, expires_at, run_at) WHERE aside = 1;

CREATE INDEX job_due ON job (queue, run_at, seq) WHERE state = 0;

CREATE INDEX job_lease ON job (lease_until, seq, queue) WHERE state = 2;

CREATE INDEX job_cancel ON job (cancel_asked, claim) WHERE cancel_asked = 1;

CREATE UNIQUE INDEX job_unique ON job (unique_key) WHERE unique_key IS NOT NULL;

CREATE INDEX job_expiry ON job (expires_at, seq) WHERE expires_at IS NOT NULL AND state < 2;

CREATE INDEX job_chore ON job (chore, chore_at, seq, prune_at) WHERE chore IS NOT NULL;

CREATE INDEX job_end ON job (state, finished_at, seq, queue) WHERE state > 2;

CREATE INDEX job_bad_end ON job (state, seq) WHERE state > 3;

-- A job as the core sees it, in the order of columns that rows.py reads.
CREATE VIEW whole_job AS
SELECT
    job.seq, job.state, job.id, job.queue, job.task, job.payload, job.spec_rest, job.created_at, job.due_at,
    job.expires_at, job.run_at, job.attempt, job.fence, job.life_rest, job.settled_fence, job.settled_digest,
    job.started_at, job.lease_until, job.finished_at, job.result, job.unique_key, job.claim, claim.claim_id,
    claim.member
FROM job LEFT JOIN claim ON claim.number = job.claim;
