-- A job as the core sees it, in the order that _server/rows.py reads.
    job.seq, job.state, job.id, job.queue, job.task, job.payload, job.spec_rest, job.created_at, job.due_at,
    job.expires_at, job.run_at, job.attempt, job.fence, job.life_rest, job.cancel, job.progress, job.settled_fence,
    job.settled_digest, job.started_at, job.lease_until, job.finished_at, job.result, job.unique_key, job.claim,
    (SELECT claim.claim_id FROM taskweave_claim AS claim WHERE claim.number = job.claim),
    (SELECT claim.member FROM taskweave_claim AS claim WHERE claim.number = job.claim)
