; SPDX-License-Identifier: MIT
; Two functions in a loop, called by main(): a module that each of lli's ways to compile takes.
;   lli-14 -jit-kind=KIND compute.ll ROUNDS
target triple = "x86_64-pc-linux-gnu"

@format = private constant [12 x i8] c"result %lu\0A\00"

declare i32 @printf(i8*, ...)
declare i64 @strtoul(i8*, i8**, i32)

define i64 @mix(i64 %x, i64 %k) {
  %a = mul i64 %x, 6364136223846793005
  %b = add i64 %a, %k
  %c = lshr i64 %b, 29
  %d = xor i64 %b, %c
  ret i64 %d
}

define i64 @round(i64 %seed) {
entry:
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
  %x = phi i64 [ %seed, %entry ], [ %mixed, %loop ]
  %mixed = call i64 @mix(i64 %x, i64 %k)
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, 1000000
  br i1 %more, label %loop, label %done
done:
  ret i64 %mixed
}

define i32 @main(i32 %argc, i8** %argv) {
entry:
  %slot = getelementptr i8*, i8** %argv, i64 1
  %text = load i8*, i8** %slot
  %rounds = call i64 @strtoul(i8* %text, i8** null, i32 10)
  br label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %next, %loop ]
  %seed = phi i64 [ 42, %entry ], [ %out, %loop ]
  %out = call i64 @round(i64 %seed)
  %next = add i64 %n, 1
  %more = icmp ult i64 %next, %rounds
  br i1 %more, label %loop, label %done
done:
  %format = getelementptr [12 x i8], [12 x i8]* @format, i64 0, i64 0
  %printed = call i32 (i8*, ...) @printf(i8* %format, i64 %out)
  ret i32 0
}
