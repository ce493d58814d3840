/* SPDX-License-Identifier: MIT */
/*
 * What it costs to flip code, bare and under a launcher, in one run: it runs itself by turns without and with
 * the words that it is given in front.
 *
 *   bench_flip [LAUNCHER WORD...]    e.g. bench_flip jitbroker-run --socket /run/jitbroker/socket --
 *
 * Prints a table: per operation the median of the rounds' means, or - where it did not end well. An aim that
 * is missed is no failure: that depends on the machine.
 */
#include <sys/wait.h>
#include <time.h>

#include "tests/preload/program.h"

#define ROUNDS 7u
#define WORDS_MAX 32

static uint8_t *code;
static size_t turn;

static void small_change(void)
{
    protect(code, 16 * PAGE, RW);
    put(code + 5 * PAGE, ++turn);
    protect(code, 16 * PAGE, RX);
}

static void all_changed(void)
{
    protect(code, 16 * PAGE, RW);
    memset(code, (int)++turn, 16 * PAGE);
    protect(code, 16 * PAGE, RX);
}

static void one_page(void)
{
    protect(code + 3 * PAGE, PAGE, RW);
    put(code + 3 * PAGE, ++turn);
    protect(code + 3 * PAGE, PAGE, RX);
    must_return(code + 3 * PAGE, turn);
}

static void patch_and_run(void)
{
    put(code, ++turn);
    must_return(code, turn);
}

/* inc dword [rip + 0xFA]; ret */
static void count(void)
{
    (void)code_call(code);
}

static void come_and_go(void)
{
    uint8_t *fresh = map_pages(16, RW);

    put(fresh, ++turn);
    protect(fresh, 16 * PAGE, RX);
    must_return(fresh, turn);
    unmap(fresh, 16 * PAGE);
}

static void prepare_flips(void)
{
    code = map_pages(16, RW);
    memset(code, 0x90, 16 * PAGE);
    protect(code, 16 * PAGE, RX);
}

static void prepare_both(void)
{
    code = map_pages(16, RWX);
    memcpy(code, "\xFF\x05\xFA\x00\x00\x00\xC3", 7);
}

static const struct {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
    unsigned times;
    double aim; /* times bare; 0: none */
} rows[] = {
    {"64 KiB to writable and back, one store", prepare_flips, small_change, 2000, 2},
    {"64 KiB to writable and back, all changed", prepare_flips, all_changed, 500, 0},
    {"one page of them to writable and back, and called", prepare_flips, one_page, 2000, 0},
    {"64 KiB are mapped, written, called, unmapped", NULL, come_and_go, 500, 0},
    {"a function is written and called where it is, both at once", prepare_both, patch_and_run, 1000, 0},
    {"code that counts in its own page", prepare_both, count, 1000, 0},
};

#define ROWS (sizeof rows / sizeof rows[0])

static double now_us(void)
{
    struct timespec now;

    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* In a process of its own: prints microseconds for each. */
static void measure(size_t row)
{
    double start;

    must(row < ROWS);
    if (rows[row].prepare != NULL)
        rows[row].prepare();
    for (unsigned i = 0; i < rows[row].times / 10; i++)
        rows[row].run();
    start = now_us();
    for (unsigned i = 0; i < rows[row].times; i++)
        rows[row].run();
    (void)printf("%.4f\n", (now_us() - start) / rows[row].times);
}

/* 0 if it does not come to its end. */
static double measure_by(char *const words[])
{
    char line[64];
    double figure = 0;
    int ends[2];
    FILE *output;
    pid_t child;

    must(pipe(ends) == 0);
    child = split();
    if (child == 0) {
        must(dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execvp(words[0], words);
        _exit(127);
    }
    (void)close(ends[1]);
    output = fdopen(ends[0], "r");
    must(output != NULL);
    if (fgets(line, sizeof line, output) != NULL)
        figure = strtod(line, NULL);
    (void)fclose(output);
    must(waitpid(child, NULL, 0) == child);
    return figure;
}

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double figures[ROUNDS])
{
    qsort(figures, ROUNDS, sizeof figures[0], by_size);
    return figures[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    char measured[] = "--measure";
    char number[16];
    char *words[WORDS_MAX + 4] = {NULL};
    char *plain[] = {self, measured, number, NULL};

    if (argc == 3 && strcmp(argv[1], measured) == 0) {
        measure(strtoul(argv[2], NULL, 10));
        return EXIT_SUCCESS;
    }
    must(length > 0 && argc <= WORDS_MAX);
    self[length] = '\0';
    memcpy(words, argv + 1, (size_t)(argc - 1) * sizeof words[0]);
    memcpy(words + argc - 1, plain, sizeof plain);
    (void)printf("%-60s %10s %10s %8s\n", "microseconds", "bare", "under it", "times");
    for (size_t row = 0; row < ROWS; row++) {
        double bare[ROUNDS];
        double under[ROUNDS];

        (void)snprintf(number, sizeof number, "%zu", row);
        for (size_t round = 0; round < ROUNDS; round++) {
            bare[round] = measure_by(plain);
            under[round] = argc > 1 ? measure_by(words) : 0;
        }
        (void)printf("%-60s %10.3f", rows[row].name, median(bare));
        if (median(under) > 0)
            (void)printf(" %10.3f %8.2f", median(under), median(under) / median(bare));
        else
            (void)printf(" %10s %8s", "-", "-");
        if (rows[row].aim > 0)
            (void)printf("  (aim: %.0f)", rows[row].aim);
        (void)printf("\n");
        (void)fflush(stdout);
    }
    return EXIT_SUCCESS;
}
