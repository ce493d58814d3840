-- SPDX-License-Identifier: MIT
-- One transaction of pgbench: a query that is compiled each time.
\set n random(1, 1000)
SELECT sum(a * :n + b), avg(d * d), count(*) FILTER (WHERE a % 3 = b % 5) FROM numbers WHERE c LIKE '%7%';
