;;;; SPDX-License-Identifier: MIT
;;;; Functions compiled to machine code by the program while it runs, as all code of SBCL's is, and the
;;;; garbage collector moving them.
;;;;   sbcl --script compute.lisp FUNCTIONS ROUNDS
(defun sieve (size)
  (declare (type fixnum size) (optimize speed (safety 0)))
  (let ((composite (make-array size :element-type 'bit :initial-element 0)) (primes 0))
    (declare (type fixnum primes))
    (loop for i of-type fixnum from 2 below size
          when (zerop (aref composite i))
            do (incf primes)
               (loop for k of-type fixnum from (* i i) below size by i do (setf (aref composite k) 1)))
    primes))

(defun made (n)
  (compile nil `(lambda (x)
                  (declare (type (unsigned-byte 31) x) (optimize speed))
                  (loop repeat 1000 do (setf x (logand (+ (* x 1103515245) ,n) #x7fffffff)))
                  x)))

(let* ((arguments (mapcar #'parse-integer (last sb-ext:*posix-argv* 2)))
       (functions (loop for n below (first arguments) collect (made n)))
       (sum 0))
  (dotimes (round (second arguments))
    (incf sum (sieve 20000))
    (dolist (function functions)
      (incf sum (funcall function round)))
    (when (zerop (mod round 100))
      (sb-ext:gc)))
  (format t "result ~a~%" sum)
  (format t "jit: ~a functions of machine code~%" (count-if #'compiled-function-p functions)))
