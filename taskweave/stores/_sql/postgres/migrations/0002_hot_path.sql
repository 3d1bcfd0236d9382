-- What producers and workers do all the time, each as one call that is its own transaction: no round trip is spent on
-- beginning, committing, or asking for the time. What they do is what taskweave/core says of the same verbs; whatever
-- is not plain (a failure, a retry, a unique key) is stepped by the core itself, outside.
--
-- Plans are made once for each session, often while the tables are empty and have no statistics. Everything here is
-- found by an index, in its order; the planner is told so, because on an empty table any other plan looks as good. For
-- the same reason a job that is looked up by its seq is known to run by its lease: its state would bring the index of
-- the leases into play, which has one page while nothing runs.

-- New jobs without a unique key, in the order of the arrays. Answers the ids that were there already and were left
-- as they are. core.life.first and core.ready.rank say what a new job's columns are.
CREATE FUNCTION taskweave.enqueue(
    p_at bigint, p_ids text[], p_queues text[], p_tasks text[], p_payloads bytea[], p_rests text[],
    p_priorities integer[], p_delays bigint[], p_ats bigint[], p_expiries bigint[], p_ttls bigint[], p_keeps bigint[]
) RETURNS text[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now bigint;
    v_aging bigint;
    v_known text[];
BEGIN
    SELECT greatest(coalesce(p_at, round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint), meta.floor), aging_us
    INTO v_now, v_aging FROM taskweave.meta WHERE one = 1;
    v_known := ARRAY(SELECT job.id FROM taskweave.job WHERE job.id = ANY(p_ids));
    INSERT INTO taskweave.job (
        seq, rank_b, run_at, created_at, due_at, ttl_us, keep_us, expires_at, rank_a, state, fragile, id, queue, task,
        spec_rest, payload
    )
    SELECT
        nextval('taskweave.job_seq_seq'), CASE WHEN v_aging IS NULL THEN due ELSE due - priority * v_aging END, due,
        v_now, due, ttl_us, keep_us, v_now + expiry, CASE WHEN v_aging IS NULL THEN -priority ELSE 0 END,
        CASE WHEN due > v_now THEN 0 ELSE 1 END, 0, id, queue, task, rest, payload
    FROM (
        SELECT coalesce(given.at, v_now + given.delay) AS due, given.*
        FROM unnest(
            p_ids, p_queues, p_tasks, p_payloads, p_rests, p_priorities, p_delays, p_ats, p_expiries, p_ttls, p_keeps
        ) WITH ORDINALITY AS given (id, queue, task, payload, rest, priority, delay, at, expiry, ttl_us, keep_us, nth)
        WHERE v_known = '{}' OR NOT given.id = ANY(v_known)
        ORDER BY given.nth
    ) AS fresh;
    RETURN v_known;
END
$$;

-- One exchange: promote, settle plain successes, claim, in this order, at one instant. The rows that it answers have a
-- place: 0 is the head (the instant, and when the next job is due); -1 a settlement that changed nothing; -2 a request
-- to stop a job; -3 how far a lane was read; from 1 on the claimed jobs in their order.
--
-- Dead rows. While some transaction keeps an old snapshot, nothing that was claimed since leaves the index of ready
-- jobs, and each claim would step over all of it again. The head says how many entries were read. When they are many,
-- the places up to which the lanes were read are answered too; a worker that hands them in again (p_from_...) has the
-- next claim begin there. It may then miss a job that came to stand before that place, so it looks from the beginning
-- again from time to time (_postgres/heads.py).
CREATE FUNCTION taskweave.exchange(
    p_at bigint, p_member text, p_claim_id text, p_want integer, p_queues text[], p_tasks text[], p_lease_us bigint,
    p_fragile integer, p_promoted_max integer, p_skipped_max integer,
    p_ids text[], p_fences bigint[], p_digests bigint[], p_results bytea[],
    p_read_max integer, p_from_queues text[], p_from_tasks text[], p_from_as integer[], p_from_bs bigint[],
    p_from_seqs bigint[]
) RETURNS TABLE (
    o_place integer, o_at bigint, o_id text, o_fence bigint, o_due_at bigint, o_run_at bigint, o_attempt integer,
    o_queue text, o_task text, o_payload bytea, o_spec_rest text, o_life_rest text
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now bigint;
    v_due bigint;
    v_pauses boolean;
    v_cancels boolean;
    v_repeats boolean;
    v_asides boolean;
    v_queue text;
    v_open text[] := p_queues;
    v_number bigint;
    v_listed text;
    v_rows integer;
    v_left integer := p_want;
    v_fragile integer := greatest(p_fragile, 0);
    v_skipped integer := 0;
    v_tasks text[];
    v_lane_tasks text[];
    v_lane_kinds smallint[];
    v_lane_wants integer[];
    v_wanted integer;
    v_found bigint[];
    v_seqs bigint[];
    v_late bigint[];
    v_weak integer;
    v_all bigint[] := '{}';
    v_as integer[];
    v_bs bigint[];
    v_from bigint[];
    v_read bigint := -coalesce(pg_stat_get_xact_tuples_returned(to_regclass('taskweave.job_ready')), 0);
BEGIN
    -- The instant, and what there is that is rarely there, in one look: most exchanges need no more of it.
    SELECT greatest(coalesce(p_at, round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint), meta.floor),
        EXISTS (SELECT FROM taskweave.pause),
        EXISTS (SELECT FROM taskweave.job WHERE job.claim > 0 AND job.cancel IS NOT NULL),
        EXISTS (SELECT FROM taskweave.claim WHERE claim.claim_id = p_claim_id),
        EXISTS (SELECT FROM taskweave.job WHERE job.aside = 1 AND job.queue = ANY(p_queues))
    INTO v_now, v_pauses, v_cancels, v_repeats, v_asides FROM taskweave.meta WHERE one = 1;

    -- Promotion, by (run_at, seq) across the queues.
    FOREACH v_queue IN ARRAY p_queues LOOP
        PERFORM FROM taskweave.job WHERE job.state = 0 AND job.queue = v_queue AND job.run_at <= v_now LIMIT 1;
        IF FOUND THEN
            UPDATE taskweave.job SET state = 1 WHERE job.seq = ANY(ARRAY(
                SELECT due.seq
                FROM unnest(p_queues) AS line (queue)
                CROSS JOIN LATERAL (
                    SELECT job.run_at, job.seq FROM taskweave.job
                    WHERE job.state = 0 AND job.queue = line.queue AND job.run_at <= v_now
                    ORDER BY job.run_at, job.seq LIMIT p_promoted_max FOR UPDATE SKIP LOCKED
                ) AS due
                ORDER BY due.run_at, due.seq LIMIT p_promoted_max
            ));
            EXIT;
        END IF;
    END LOOP;

    -- Plain successes, in the order of seq, in which everybody locks rows. What was not written now is either the
    -- repeat of a settlement, or refused.
    IF cardinality(p_ids) > 0 THEN
        UPDATE taskweave.job SET
            state = 3, claim = NULL, lease_until = NULL, cancel = NULL, progress = NULL, settled_fence = job.fence,
            settled_digest = ended.digest, finished_at = v_now, result = ended.result,
            chore = CASE WHEN ended.result IS NULL THEN 1 ELSE 0 END,
            chore_at = CASE
                WHEN ended.result IS NULL THEN greatest(v_now + job.keep_us, job.window_until) ELSE v_now + job.ttl_us
            END,
            prune_at = greatest(
                v_now + job.keep_us, job.window_until, CASE WHEN ended.result IS NOT NULL THEN v_now + job.ttl_us END
            ),
            unique_key = CASE WHEN job.window_until > v_now THEN job.unique_key END
        FROM (
            SELECT job.seq, given.*
            FROM unnest(p_ids, p_fences, p_digests, p_results) AS given (id, fence, digest, result)
            JOIN taskweave.job ON job.id = given.id
            ORDER BY job.seq
        ) AS ended
        WHERE job.seq = ended.seq AND job.fence = ended.fence AND job.lease_until IS NOT NULL;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows < cardinality(p_ids) THEN
            RETURN QUERY
            SELECT
                -1, v_now, given.id, given.fence, NULL::bigint, NULL::bigint, NULL::integer, NULL, NULL, NULL::bytea,
                NULL, NULL
            FROM unnest(p_ids, p_fences, p_digests) AS given (id, fence, digest)
            WHERE NOT EXISTS (
                SELECT FROM taskweave.job
                WHERE
                    job.id = given.id AND job.settled_fence = given.fence AND job.settled_digest = given.digest
            );
        END IF;
    END IF;

    -- The requests to stop what this member runs.
    IF v_cancels THEN
        RETURN QUERY
        SELECT
            -2, v_now, job.id, job.fence, NULL::bigint, NULL::bigint, NULL::integer, NULL, NULL, NULL::bytea, NULL,
            job.cancel
        FROM taskweave.job
        WHERE
            job.cancel IS NOT NULL AND job.claim > 0
            AND p_member = (SELECT claim.member FROM taskweave.claim WHERE claim.number = job.claim);
    END IF;

    -- A repeated claim answers what still runs under it.
    IF v_repeats THEN
        SELECT claim.number, claim.seqs INTO v_number, v_listed FROM taskweave.claim WHERE claim.claim_id = p_claim_id;
        RETURN QUERY
        SELECT
            1, job.started_at, job.id, job.fence, job.due_at, job.run_at, job.attempt, job.queue, job.task,
            job.payload, job.spec_rest, job.life_rest
        FROM taskweave.job
        WHERE
            job.seq = ANY(ARRAY(SELECT listed.seq::bigint FROM json_array_elements_text(v_listed::json) AS listed (seq)))
            AND job.claim = v_number AND job.lease_until IS NOT NULL
        ORDER BY job.seq;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows = 0 THEN
            DELETE FROM taskweave.claim WHERE claim.number = v_number;
        ELSE
            v_left := p_want - v_rows;
            p_tasks := '{}';
        END IF;
        v_number := NULL;
    END IF;

    IF v_pauses THEN
        v_open := ARRAY(
            SELECT line.queue FROM unnest(p_queues) WITH ORDINALITY AS line (queue, nth)
            WHERE NOT EXISTS (SELECT FROM taskweave.pause WHERE pause.queue = line.queue) ORDER BY line.nth
        );
    END IF;

    IF v_left > 0 AND cardinality(p_tasks) > 0 AND cardinality(v_open) > 0 THEN
        -- Expired jobs that were set aside are ready again if the clock ran back.
        IF v_asides THEN
            UPDATE taskweave.job SET aside = 0
            WHERE job.aside = 1 AND job.queue = ANY(v_open) AND job.expires_at > v_now;
        END IF;

        FOREACH v_queue IN ARRAY v_open LOOP
            -- Which of the known tasks wait here: by asking for each of a few, else by leaping along the index.
            v_tasks := p_tasks;
            IF cardinality(p_tasks) > 3 AND cardinality(p_from_queues) = 0 THEN
                WITH RECURSIVE lane (task) AS (
                    (
                        SELECT job.task FROM taskweave.job
                        WHERE job.state = 1 AND job.aside = 0 AND job.queue = v_queue ORDER BY job.task LIMIT 1
                    )
                    UNION ALL
                    SELECT (
                        SELECT job.task FROM taskweave.job
                        WHERE job.state = 1 AND job.aside = 0 AND job.queue = v_queue AND job.task > lane.task
                        ORDER BY job.task LIMIT 1
                    )
                    FROM lane WHERE lane.task IS NOT NULL
                )
                SELECT coalesce(array_agg(lane.task), '{}') INTO v_tasks FROM lane WHERE lane.task = ANY(p_tasks);
            END IF;

            v_as := array_fill(-1000000, ARRAY[cardinality(v_tasks)]);
            v_bs := array_fill(0::bigint, ARRAY[cardinality(v_tasks)]);
            v_from := v_bs;
            IF cardinality(p_from_queues) > 0 THEN
                SELECT
                    array_agg(coalesce(begun.a, -1000000) ORDER BY known.nth),
                    array_agg(coalesce(begun.b, 0) ORDER BY known.nth),
                    array_agg(coalesce(begun.seq, 0) ORDER BY known.nth)
                INTO v_as, v_bs, v_from
                FROM unnest(v_tasks) WITH ORDINALITY AS known (task, nth)
                LEFT JOIN unnest(p_from_queues, p_from_tasks, p_from_as, p_from_bs, p_from_seqs)
                    AS begun (queue, task, a, b, seq) ON begun.queue = v_queue AND begun.task = known.task;
            END IF;

            -- Round by round: what is taken is what waits first. A second round is needed where expired jobs stood in
            -- the way, or where others held what this one had looked at.
            LOOP
                EXIT WHEN v_left <= 0 OR v_skipped >= p_skipped_max OR cardinality(v_tasks) = 0;
                v_lane_tasks := v_tasks;
                v_lane_kinds := '{0}';
                v_lane_wants := ARRAY[v_left];
                v_wanted := v_left;
                IF cardinality(v_tasks) > 1 OR (v_fragile > 0 AND EXISTS (
                    SELECT FROM taskweave.job
                    WHERE
                        job.state = 1 AND job.aside = 0 AND job.queue = v_queue AND job.task = v_tasks[1]
                        AND job.fragile = 1
                )) THEN
                    -- How many of each lane are among the first, seen without locking what will not be taken.
                    SELECT array_agg(share.task), array_agg(share.fragile), array_agg(share.jobs), sum(share.jobs)
                    INTO v_lane_tasks, v_lane_kinds, v_lane_wants, v_wanted
                    FROM (
                        SELECT first.task, first.fragile, count(*)::integer AS jobs
                        FROM (
                            SELECT ahead.task, ahead.fragile
                            FROM (
                                SELECT
                                    near.*, row_number() OVER (
                                        PARTITION BY near.fragile ORDER BY near.rank_a, near.rank_b, near.seq
                                    ) AS nth
                                FROM unnest(v_tasks, v_as, v_bs, v_from) AS known (task, a, b, seq)
                                CROSS JOIN (VALUES (0, v_left), (1, least(v_left, v_fragile))) AS kind (fragile, most)
                                CROSS JOIN LATERAL (
                                    SELECT job.rank_a, job.rank_b, job.seq, job.task, job.fragile FROM taskweave.job
                                    WHERE
                                        job.state = 1 AND job.aside = 0 AND job.queue = v_queue
                                        AND job.task = known.task AND job.fragile = kind.fragile
                                        AND (job.rank_a, job.rank_b, job.seq) > (
                                            CASE kind.fragile WHEN 0 THEN known.a ELSE -1000000 END, known.b, known.seq
                                        )
                                    ORDER BY job.rank_a, job.rank_b, job.seq LIMIT kind.most
                                ) AS near
                            ) AS ahead
                            WHERE ahead.fragile = 0 OR ahead.nth <= v_fragile
                            ORDER BY ahead.rank_a, ahead.rank_b, ahead.seq LIMIT v_left
                        ) AS first
                        GROUP BY first.task, first.fragile
                    ) AS share;
                    EXIT WHEN v_wanted IS NULL;
                END IF;

                SELECT
                    array_agg(held.seq ORDER BY held.rank_a, held.rank_b, held.seq),
                    array_agg(held.seq ORDER BY held.rank_a, held.rank_b, held.seq)
                        FILTER (WHERE held.expires_at <= v_now),
                    count(*) FILTER (WHERE held.fragile = 1 AND (held.expires_at IS NULL OR held.expires_at > v_now))
                INTO v_found, v_late, v_weak
                FROM unnest(v_lane_tasks, v_lane_kinds, v_lane_wants) AS lane (task, fragile, jobs)
                JOIN unnest(v_tasks, v_as, v_bs, v_from) AS known (task, a, b, seq) ON known.task = lane.task
                CROSS JOIN LATERAL (
                    SELECT job.seq, job.rank_a, job.rank_b, job.fragile, job.expires_at FROM taskweave.job
                    WHERE
                        job.state = 1 AND job.aside = 0 AND job.queue = v_queue AND job.task = lane.task
                        AND job.fragile = lane.fragile
                        AND (job.rank_a, job.rank_b, job.seq) > (
                            CASE lane.fragile WHEN 0 THEN known.a ELSE -1000000 END, known.b, known.seq
                        )
                    ORDER BY job.rank_a, job.rank_b, job.seq LIMIT lane.jobs FOR UPDATE SKIP LOCKED
                ) AS held;
                EXIT WHEN v_found IS NULL;
                v_seqs := v_found;
                IF v_late IS NOT NULL THEN
                    IF v_skipped + cardinality(v_late) >= p_skipped_max THEN
                        -- It ends at the last one that it may step over; what lies behind is not looked at.
                        v_late := v_late[1:p_skipped_max - v_skipped];
                        v_seqs := v_found[1:array_position(v_found, v_late[cardinality(v_late)])];
                    END IF;
                    UPDATE taskweave.job SET aside = 1 WHERE job.seq = ANY(v_late);
                    v_skipped := v_skipped + cardinality(v_late);
                    v_seqs := ARRAY(
                        SELECT taken.seq FROM unnest(v_seqs) WITH ORDINALITY AS taken (seq, nth)
                        WHERE NOT taken.seq = ANY(v_late) ORDER BY taken.nth
                    );
                END IF;
                IF cardinality(v_seqs) > 0 THEN
                    IF v_number IS NULL THEN
                        v_number := nextval('taskweave.claim_number_seq');
                    END IF;
                    RETURN QUERY
                    UPDATE taskweave.job SET
                        state = 2, attempt = job.attempt + 1, fence = job.fence + 1, claim = v_number,
                        lease_until = v_now + p_lease_us, started_at = v_now
                    FROM unnest(v_seqs) WITH ORDINALITY AS taken (seq, nth)
                    WHERE job.seq = taken.seq
                    RETURNING
                        (cardinality(v_all) + taken.nth)::integer, v_now, job.id, job.fence, job.due_at, job.run_at,
                        job.attempt, job.queue, job.task, job.payload, job.spec_rest, job.life_rest;
                    v_all := v_all || v_seqs;
                    v_left := v_left - cardinality(v_seqs);
                    v_fragile := v_fragile - v_weak;
                END IF;
                EXIT WHEN v_late IS NULL AND cardinality(v_found) >= v_wanted;
            END LOOP;
            EXIT WHEN v_left <= 0 OR v_skipped >= p_skipped_max;
        END LOOP;

        IF v_number IS NOT NULL THEN
            INSERT INTO taskweave.claim (number, until, claim_id, member, seqs)
            VALUES (v_number, v_now + p_lease_us, p_claim_id, p_member, array_to_json(v_all)::text);
        END IF;
    END IF;

    v_read := v_read + coalesce(pg_stat_get_xact_tuples_returned(to_regclass('taskweave.job_ready')), 0);
    IF v_read > p_read_max OR cardinality(p_from_queues) > 0 THEN
        RETURN QUERY
        SELECT DISTINCT ON (job.queue, job.task)
            -3, v_now, NULL, job.seq, NULL::bigint, job.rank_b, job.rank_a, job.queue, job.task, NULL::bytea, NULL, NULL
        FROM taskweave.job WHERE job.seq = ANY(v_all) AND job.fragile = 0
        ORDER BY job.queue, job.task, job.rank_a DESC, job.rank_b DESC, job.seq DESC;
    END IF;

    IF v_left > 0 THEN
        IF v_skipped >= p_skipped_max THEN
            v_due := v_now;
        ELSE
            SELECT min(head.run_at) INTO v_due
            FROM unnest(v_open) AS line (queue)
            CROSS JOIN LATERAL (
                SELECT job.run_at FROM taskweave.job
                WHERE job.state = 0 AND job.queue = line.queue ORDER BY job.run_at, job.seq LIMIT 1
            ) AS head;
        END IF;
    END IF;
    RETURN QUERY SELECT
        0, v_now, NULL, v_read, v_due, NULL::bigint, NULL::integer, NULL, NULL, NULL::bytea, NULL, NULL;
END
$$;
