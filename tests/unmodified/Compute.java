// SPDX-License-Identifier: MIT
// Arithmetic, objects, strings and a virtual call, in THREADS threads at once. What it found goes to standard
// error: the compilations that the machine reports come in between on standard output.
//   java -XX:+PrintCompilation Compute THREADS ROUNDS
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Compute {
    interface Shape {
        double area();
    }

    record Square(double side) implements Shape {
        public double area() {
            return side * side;
        }
    }

    record Circle(double radius) implements Shape {
        public double area() {
            return 3.0 * radius * radius;
        }
    }

    static int sieve(int size) {
        boolean[] composite = new boolean[size];
        int primes = 0;
        for (int i = 2; i < size; i++) {
            if (composite[i])
                continue;
            primes++;
            for (long k = (long) i * i; k < size; k += i)
                composite[(int) k] = true;
        }
        return primes;
    }

    static double shapes(int count) {
        List<Shape> all = new ArrayList<>();
        for (int i = 0; i < count; i++)
            all.add(i % 3 == 0 ? new Circle(i % 10) : new Square(i % 7));
        double sum = 0;
        for (Shape shape : all)
            sum += shape.area();
        return sum;
    }

    static int words(int count) {
        Map<String, Integer> seen = new HashMap<>();
        int x = 42;
        for (int i = 0; i < count; i++) {
            x = x * 1103515245 + 12345;
            seen.merge("w" + (x >>> 16) % 1000, 1, Integer::sum);
        }
        return seen.size();
    }

    static double work(int rounds) {
        double sum = 0;
        for (int round = 0; round < rounds; round++)
            sum += sieve(20000) + shapes(5000) + words(5000);
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        int threads = Integer.parseInt(arguments[0]);
        int rounds = Integer.parseInt(arguments[1]);
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        List<Callable<Double>> tasks = new ArrayList<>();
        for (int i = 0; i < threads; i++)
            tasks.add(() -> work(rounds));
        double sum = 0;
        for (Future<Double> done : pool.invokeAll(tasks))
            sum += done.get();
        pool.shutdown();
        System.err.println("result " + sum);
    }
}
