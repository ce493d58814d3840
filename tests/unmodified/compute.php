<?php
// SPDX-License-Identifier: MIT
// Arithmetic, arrays and strings in functions that become hot.
//   php8.2 -d opcache.enable_cli=1 -d opcache.jit=KIND -d opcache.jit_buffer_size=16M compute.php ROUNDS

function mandelbrot(int $size): int
{
    $inside = 0;
    for ($i = 0; $i < $size; $i++) {
        for ($k = 0; $k < $size; $k++) {
            $cx = 2.0 * $i / $size - 1.5;
            $cy = 2.0 * $k / $size - 1.0;
            $x = $y = 0.0;
            for ($n = 0; $n < 50 && $x * $x + $y * $y < 4.0; $n++) {
                [$x, $y] = [$x * $x - $y * $y + $cx, 2.0 * $x * $y + $cy];
            }
            $inside += $n === 50 ? 1 : 0;
        }
    }
    return $inside;
}

function sieve(int $size): int
{
    $composite = array_fill(0, $size, false);
    $primes = 0;
    for ($i = 2; $i < $size; $i++) {
        if ($composite[$i]) {
            continue;
        }
        $primes++;
        for ($k = $i * $i; $k < $size; $k += $i) {
            $composite[$k] = true;
        }
    }
    return $primes;
}

function mix(int $rounds): string
{
    $text = '';
    $x = 42;
    for ($i = 0; $i < $rounds; $i++) {
        $x = ($x * 1103515245 + 12345) & 0x7fffffff;
        $text = ($i % 64 === 0 ? '' : $text) . chr(97 + $x % 26);
    }
    return $text;
}

$sum = 0;
for ($round = 0; $round < (int) $argv[1]; $round++) {
    $sum += mandelbrot(60) + sieve(20000);
    $text = mix(20000);
}
echo "result $sum $text\n";
$jit = opcache_get_status(false)['jit'];
printf("jit: on %d, %d bytes of code\n", $jit['on'], $jit['buffer_size'] - $jit['buffer_free']);
