// SPDX-License-Identifier: MIT
// Threads, each with a heap, an optimizing compiler and a WebAssembly module of its own, all at once.
//   node --allow-natives-syntax workers.js THREADS ROUNDS
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function mix(rounds, seed) {
  let x = seed;
  for (let i = 0; i < rounds; i++) x = (Math.imul(x, 1103515245) + 12345 + (x >>> 7)) | 0;
  return x;
}

if (isMainThread) {
  const threads = Number(process.argv[2]);
  const sums = new Array(threads);
  let optimized = 0;
  let left = threads;
  for (let i = 0; i < threads; i++) {
    new Worker(__filename, { workerData: { seed: i, rounds: Number(process.argv[3]) } }).on('message', (told) => {
      sums[i] = told.sum;
      optimized += told.optimized;
      if (--left === 0) {
        console.log('result', sums.join(' '));
        console.log(`jit: optimized in ${optimized} threads`);
      }
    });
  }
} else {
  let sum = 0;
  for (let round = 0; round < workerData.rounds; round++) {
    // A function made anew each time is compiled anew: threads compile while others run.
    const twist = new Function('x', `let y = x; for (let i = 0; i < 20000; i++) y = (y * 31 + i + ${round}) | 0; return y;`);
    sum = (sum + mix(1000000, workerData.seed + round) + twist(round)) | 0;
  }
  const OPTIMIZED = 1 << 4;
  const isOptimized = new Function('f', 'return %GetOptimizationStatus(f)');
  for (let round = 0; round < 1000 && !(isOptimized(mix) & OPTIMIZED); round++) mix(100000, round);
  parentPort.postMessage({ sum, optimized: isOptimized(mix) & OPTIMIZED ? 1 : 0 });
}
