<?php
// SPDX-License-Identifier: MIT
// A master forks four workers, and again four, as PHP-FPM does. They share opcache's memory, and so the code
// that its JIT makes: what one of them compiled, the others run.
//   php8.2 -d opcache.enable_cli=1 -d opcache.jit=tracing -d opcache.jit_buffer_size=16M workers.php FOLDER TIMES SIZE

[, $folder, $times, $size] = $argv;
const WORKERS = 4;
const PARTS = 8;

for ($part = 0; $part < PARTS; $part++) {
    file_put_contents("$folder/part$part.php", "<?php
function part$part(int \$n): int
{
    for (\$i = 0, \$s = $part; \$i < \$n; \$i++) {
        \$s = (\$s * 31 + \$i % ($part + 3)) % 1000003;
    }
    return \$s;
}
");
}

// Each begins with another part, so that they compile at the same time, and each runs what others compiled.
function work(string $folder, int $worker, int $size): string
{
    $sum = 0;
    for ($i = 0; $i < 2 * PARTS; $i++) {
        $part = ($worker * 2 + $i) % PARTS;
        require_once "$folder/part$part.php";
        for ($call = 0; $call < 20; $call++) {
            $sum += ("part$part")($size);
        }
    }
    $jit = opcache_get_status(false)['jit'];
    return $sum . ' ' . ($jit['on'] ? $jit['buffer_size'] - $jit['buffer_free'] : 0);
}

$bytes = 0;
for ($time = 0; $time < $times; $time++) {
    $ends = [];
    for ($worker = 0; $worker < WORKERS; $worker++) {
        [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        if (pcntl_fork() === 0) {
            fwrite($theirs, work($folder, $worker, (int) $size));
            exit(0);
        }
        fclose($theirs);
        $ends[] = $ours;
    }
    $sums = [];
    foreach ($ends as $end) {
        [$sums[], $bytes] = explode(' ', stream_get_contents($end) . '  ');
    }
    for ($worker = 0; $worker < WORKERS; $worker++) {
        pcntl_wait($status);
        if ($status !== 0) {
            echo "a worker ended with $status\n";
            exit(1);
        }
    }
    echo "result $time ", implode(' ', $sums), "\n";
}
echo "jit: $bytes bytes of code\n";
