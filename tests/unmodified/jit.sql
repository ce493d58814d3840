-- SPDX-License-Identifier: MIT
-- One backend's work: a query of expressions and tuples to take apart, ROUNDS times with another constant
-- each, so that each time it is compiled anew.
--   psql -q -v rounds=ROUNDS -f jit.sql
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
SELECT format($$SELECT 'result', sum(a * %s + b), count(*) FILTER (WHERE c LIKE '%%7%%' AND a %% 3 = b %% 5),
    round(avg(d * d + %s)::numeric, 6), max(CASE WHEN a > b THEN a - b ELSE b - a END) FROM numbers$$, n, n)
FROM generate_series(1, :rounds) AS n \gexec
EXPLAIN (ANALYZE) SELECT sum(a * 3 + b), avg(d * d) FROM numbers WHERE c LIKE '%7%';
