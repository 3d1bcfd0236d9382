-- As whole_job, of a row that was waited for: what is not locked is read as it was before the wait.
    job.seq, job.state, job.id, job.queue, job.task, job.payload, job.spec_rest, job.created_at, job.due_at,
    job.expires_at, job.run_at, job.attempt, job.fence, job.life_rest, job.cancel, job.progress, job.settled_fence,
    job.settled_digest, job.started_at, job.lease_until, job.finished_at, job.result, job.unique_key, job.claim,
    (SELECT claim.claim_id FROM taskweave_claim AS claim WHERE claim.number = job.claim LOCK IN SHARE MODE),
    (SELECT claim.member FROM taskweave_claim AS claim WHERE claim.number = job.claim LOCK IN SHARE MODE)
