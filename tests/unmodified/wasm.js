// SPDX-License-Identifier: MIT
// A WebAssembly module of one loop, compiled again and run. V8 has no interpreter for these.
//   node --allow-natives-syntax wasm.js MODULES ROUNDS
'use strict';

// (func (export "f") (param $n i32) (result i32) (local $x i32)
//   (loop (local.set $x (i32.add (i32.mul (local.get $x) (i32.const FACTOR)) (local.get $n)))
//         (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
//   (local.get $x))
function bytes(factor) {
  const body = [
    1, 1, 0x7f, // one local, i32
    0x03, 0x40, // loop
    0x20, 1, 0x41, factor, 0x6c, 0x20, 0, 0x6a, 0x21, 1,
    0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, // and once more
    0x0b, 0x20, 1, 0x0b,
  ];
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, // type: i32 -> i32
    3, 2, 1, 0, // one function of that type
    7, 5, 1, 1, 0x66, 0, 0, // exported as "f"
    10, body.length + 2, 1, body.length, ...body,
  ]);
}

let sum = 0;
let optimized = 0;
for (let n = 0; n < Number(process.argv[2]); n++) {
  const { f } = new WebAssembly.Instance(new WebAssembly.Module(bytes(3 + (n % 30) * 2))).exports;
  for (let k = 0; k < Number(process.argv[3]); k++) sum = (sum + f(100000 + k)) | 0;
  optimized += eval('%IsLiftoffFunction(f)') ? 0 : 1;
}
console.log('result', sum);
console.log(`jit: ${process.argv[2]} modules compiled, ${optimized} optimized as well`);
