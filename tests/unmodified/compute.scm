;; SPDX-License-Identifier: MIT
;; Integers, floats and lists in procedures that become hot.
;;   guile compute.scm ROUNDS
(use-modules (rnrs bytevectors))

(define (sieve size)
  (let ((composite (make-bytevector size 0)))
    (let next ((i 2) (primes 0))
      (cond ((= i size) primes)
            ((= 1 (bytevector-u8-ref composite i)) (next (+ i 1) primes))
            (else
             (let mark ((k (* i i)))
               (when (< k size)
                 (bytevector-u8-set! composite k 1)
                 (mark (+ k i))))
             (next (+ i 1) (+ primes 1)))))))

(define (fibonacci n)
  (if (< n 2) n (+ (fibonacci (- n 1)) (fibonacci (- n 2)))))

(define (root steps)
  (let next ((step 0) (x 1.5))
    (if (= step steps) x (next (+ step 1) (* 0.5 (+ x (/ 2.0 x)))))))

(define (sorted count)
  (let next ((i 0) (x 42) (all '()))
    (if (= i count)
        (car (sort all <))
        (next (+ i 1) (logand (+ (* x 1103515245) 12345) #x7fffffff) (cons x all)))))

(let next ((round (string->number (cadr (command-line)))) (sum 0))
  (if (> round 0)
      (next (- round 1) (+ sum (sieve 20000) (fibonacci 18) (sorted 2000) (if (> (root 10000) 1.41) 1 0)))
      (format #t "result ~a~%" sum)))
