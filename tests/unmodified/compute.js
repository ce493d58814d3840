// SPDX-License-Identifier: MIT
// Numbers, objects and strings in functions that become hot.
//   node --allow-natives-syntax compute.js ROUNDS
'use strict';

function sieve(size) {
  const composite = new Uint8Array(size);
  let primes = 0;
  for (let i = 2; i < size; i++) {
    if (composite[i]) continue;
    primes++;
    for (let k = i * i; k < size; k += i) composite[k] = 1;
  }
  return primes;
}

class Body {
  constructor(at, speed) {
    this.at = at;
    this.speed = speed;
  }
}

function swing(steps) {
  const bodies = [new Body(0, 0.5), new Body(1, -0.25), new Body(2.5, 0.125)];
  for (let n = 0; n < steps; n++) {
    for (const one of bodies) {
      for (const other of bodies) {
        if (one !== other) one.speed += (other.at - one.at) * 1e-3;
      }
    }
    for (const body of bodies) body.at += body.speed * 1e-3;
  }
  return bodies.reduce((sum, body) => sum + body.at, 0);
}

function words(count) {
  const seen = new Map();
  let x = 42;
  for (let i = 0; i < count; i++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
    const word = 'w' + (x >>> 16) % 1000;
    seen.set(word, (seen.get(word) || 0) + 1);
  }
  return [...seen.values()].reduce((most, n) => Math.max(most, n), 0);
}

// Else the three would become a part of this one's optimized loop, and not be optimized themselves. Nor are
// they if one call of them takes long: then it is their loops that are.
eval('%NeverOptimizeFunction(work)');
function work(rounds) {
  let sum = 0;
  for (let round = 0; round < 50 * rounds; round++) sum += sieve(1000) + swing(400) + words(400);
  return sum;
}

console.log('result', work(Number(process.argv[2])).toFixed(6));

// Threads of V8's compile; where the machine is busy they may not have come to it yet.
const OPTIMIZED = 1 << 4; // the same bit in V8 10 and 11
const status = new Function('f', 'return %GetOptimizationStatus(f)');
const optimized = () => [sieve, swing, words].filter((f) => status(f) & OPTIMIZED).length;
for (let round = 0; round < 1000 && optimized() < 3; round++) work(1);
console.log(`jit: ${optimized()} functions optimized`);
