// SPDX-License-Identifier: MIT
// What unmodified-inside.sh runs as node-app.service: each round makes a function and a WebAssembly module that were
// not there before, has both compiled, and says in a line what came of it.
'use strict';

require('v8').setFlagsFromString('--allow-natives-syntax');
const status = new Function('f', 'return %GetOptimizationStatus(f)');
const optimize = new Function('f', '%OptimizeFunctionOnNextCall(f)');
const prepare = new Function('f', '%PrepareFunctionForOptimization(f)');
const OPTIMIZED = 1 << 4;

// (func (export "f") (param i32) (result i32) local.get 0, i32.const ROUND, i32.mul)
function wasm(round) {
    const number = [round & 127 | 128, round >> 7 & 127 | 128, round >> 14 & 63]; // LEB128, below 2^20
    const body = [0, 0x20, 0, 0x41, ...number, 0x6c, 0x0b];
    const code = [1, body.length, ...body];
    const bytes = new Uint8Array([
        0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
        1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f,
        3, 2, 1, 0,
        7, 5, 1, 1, 0x66, 0, 0,
        10, code.length, ...code,
    ]);
    return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.f;
}

function play(round) {
    const f = new Function('n', `
        let sum = 0;
        for (let i = 0; i < n; i++)
            sum = (sum + i * ${round}) % 1000003;
        return sum;`);
    prepare(f);
    f(10);
    optimize(f);
    const sum = f(100000);
    // n(n-1)/2 * round modulo 1000003
    const expected = Number(4999950000n * BigInt(round) % 1000003n);
    const g = wasm(round);
    let product = 0;
    for (let i = 0; i < 10000; i++)
        product = g(i);
    return {
        round,
        right: sum === expected && product === Math.imul(9999, round),
        optimized: (status(f) & OPTIMIZED) !== 0,
    };
}

let round = 0;
setInterval(() => {
    round++;
    console.log(JSON.stringify(play(round)));
}, 50);
