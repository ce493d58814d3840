/* SPDX-License-Identifier: MIT */
/*
 * Signals that come at any moment while code is flipped and patched, and the stacks on which they are
 * handled, down to the smallest.
 */
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/preload/signals_steps.h"

static void check_stack(int signal, siginfo_t *info, void *context)
{
    int here;

    (void)signal;
    (void)info;
    (void)context;
    last = (uint8_t *)&here >= region && (uint8_t *)&here < region + 64 * PAGE;
    seen++;
}

static void stacks(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    stack_t stack = {.ss_size = SIGSTKSZ * 4 > 64 * 4096 ? 64 * 4096 : 32768};
    stack_t old;

    region = map_pages(64, RW);
    stack.ss_sp = region;
    must(sigaltstack(NULL, &old) == 0);
    must_equal(old.ss_flags, SS_DISABLE);
    work(NULL, at_once, 5);
    must(sigaltstack(&stack, &old) == 0);
    must_equal(old.ss_flags, SS_DISABLE);
    must(sigaltstack(NULL, &old) == 0);
    must(old.ss_sp == region && old.ss_size == stack.ss_size && old.ss_flags == 0);
    handle(SIGUSR1, check_stack, SA_ONSTACK);
    handle(SIGUSR2, check_stack, 0);
    handle(SIGSYS, check_stack, SA_ONSTACK);
    for (int i = 0; i < 5; i++) {
        work(NULL, at_once, 5);
        must(raise(SIGUSR1) == 0);
        must_equal(last, 1);
        must(raise(SIGUSR2) == 0);
        must_equal(last, 0);
        must(raise(SIGSYS) == 0);
        must_equal(last, 1);
    }
    stack.ss_flags = SS_DISABLE;
    must(sigaltstack(&stack, NULL) == 0);
    must(sigaltstack(NULL, &old) == 0);
    must_equal(old.ss_flags, SS_DISABLE);
    work(NULL, at_once, 5);
    must(raise(SIGUSR1) == 0);
    must_equal(last, 0);
    must_equal(seen, 16);
}

static void on_segv_stack(int signal, siginfo_t *info, void *context)
{
    int here;

    (void)signal;
    (void)info;
    (void)context;
    last = (uint8_t *)&here >= region && (uint8_t *)&here < region + 64 * PAGE;
    siglongjmp(back, 1);
}

/* The classic: a stack overflow is met on the other stack. */
static void overflow(void)
{
    stack_t stack = {.ss_size = 64 * 4096};
    uint8_t *at_once = map_pages(2, RWX);

    region = map_pages(64, RW);
    stack.ss_sp = region;
    must(sigaltstack(&stack, NULL) == 0);
    handle(SIGSEGV, on_segv_stack, SA_ONSTACK);
    for (volatile int i = 0; i < 5; i++) {
        last = 0;
        if (sigsetjmp(back, 1) == 0) {
            /* As a stack that was used up would have it. */
            __asm__ volatile("mov %%rsp, %%rbx\n mov %0, %%rsp\n push %%rax\n mov %%rbx, %%rsp"
                             :
                             : "r"(map_pages(2, PROT_NONE) + PAGE)
                             : "rbx", "memory");
            program_fail(__FILE__, __LINE__, "a push onto a guard page went through", "");
        }
        must_equal(last, 1);
        work(NULL, at_once, 5);
    }
}

/* Signals whose stack is as small as the kernel takes it, with a guard page below. */
static void *on_small_stack(void *unused)
{
    size_t bytes = ((size_t)sysconf(_SC_MINSIGSTKSZ) + 512 + 15) & ~(size_t)15;
    size_t pages = (bytes + PAGE - 1) / PAGE;
    uint8_t *room = map_pages(pages + 1, RW);
    stack_t stack = {.ss_sp = room + PAGE + (pages * PAGE - bytes), .ss_size = bytes};

    (void)unused;
    protect(room, PAGE, PROT_NONE);
    must(sigaltstack(&stack, NULL) == 0);
    for (size_t i = 0; i < 200; i++) {
        int before = seen;

        work(i % 10 == 0 ? region : NULL, other, 1);
        must(pthread_kill(pthread_self(), SIGUSR1) == 0);
        must_equal(seen, before + 1);
    }
    return NULL;
}

static void run_code(int signal)
{
    (void)signal;
    last = code_call(other + PAGE); /* it is beside what the others write */
    seen++;
}

static void small_stack(void)
{
    struct sigaction action = {.sa_handler = run_code, .sa_flags = SA_ONSTACK};
    pthread_t thread;

    region = map_pages(2, RW);
    other = map_pages(2, RWX);
    put(other + PAGE, 5);
    must(sigaction(SIGUSR1, &action, NULL) == 0);
    must(pthread_create(&thread, NULL, on_small_stack, NULL) == 0);
    must(pthread_join(thread, NULL) == 0);
    must_equal(last, 5);
}

static uint8_t *ticked; /* a flipped region of the handler's own */

static void tick(int signal, siginfo_t *info, void *context)
{
    int error = errno;

    (void)signal;
    (void)info;
    (void)context;
    must_return(other + 512, 99);
    must_return(region + 3 * PAGE, 33);
    if (ticked != NULL)
        work(ticked, NULL, 1);
    seen++;
    errno = error;
}

static void timers(void)
{
    static const struct itimerval often = {{0, 1000}, {0, 1000}};
    static const struct itimerval never;
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};

    region = map_pages(4, RW);
    other = map_pages(2, RWX);
    put(region + 3 * PAGE, 33);
    protect(region + 3 * PAGE, PAGE, RX);
    put(other + 512, 99);
    (void)sigaddset(&action.sa_mask, SIGALRM); /* neither within the other: they share what they flip */
    (void)sigaddset(&action.sa_mask, SIGPROF);
    must(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGPROF, &action, NULL) == 0);
    must(setitimer(ITIMER_REAL, &often, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0);
    while (seen < 200)
        work(region, other, 10);
    must(setitimer(ITIMER_REAL, &never, NULL) == 0 && setitimer(ITIMER_PROF, &never, NULL) == 0);
}

static void handler_flips(void)
{
    ticked = map_pages(2, RW);
    timers();
}

static bool done;

static void *flip_until(void *unused)
{
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(1, RWX);

    (void)unused;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
        work(flipped, at_once, 5);
    return NULL;
}

static void to_threads(void)
{
    pthread_t threads[3];

    region = map_pages(4, RW);
    other = map_pages(2, RWX);
    put(region + 3 * PAGE, 33);
    protect(region + 3 * PAGE, PAGE, RX);
    put(other + 512, 99);
    handle(SIGUSR1, tick, SA_RESTART);
    for (size_t i = 0; i < 3; i++)
        must(pthread_create(&threads[i], NULL, flip_until, NULL) == 0);
    for (size_t i = 0; i < 600; i++) {
        must(pthread_kill(threads[i % 3], SIGUSR1) == 0);
        work(region, other, 1);
    }
    __atomic_store_n(&done, true, __ATOMIC_RELEASE);
    for (size_t i = 0; i < 3; i++)
        must(pthread_join(threads[i], NULL) == 0);
    must(seen > 0);
}

static void leap(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

/* A handler that never returns, out of whatever it interrupted. */
static void leaps(void)
{
    static const struct itimerval soon = {{0, 0}, {0, 700}};
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(1, RWX);
    volatile int leaps_done = 0;

    (void)signal(SIGALRM, leap);
    while (leaps_done < 200) {
        if (sigsetjmp(back, 1) == 0) {
            must(setitimer(ITIMER_REAL, &soon, NULL) == 0);
            for (;;)
                work(flipped, at_once, 5);
        }
        leaps_done++;
    }
    work(flipped, at_once, 5);
}

static void in_suspend(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    sigset_t all;
    sigset_t usual;

    region = map_pages(2, RW);
    other = at_once;
    put(other + PAGE, 5);
    (void)signal(SIGUSR1, run_code);
    (void)sigfillset(&all);
    must(sigprocmask(SIG_SETMASK, &all, &usual) == 0);
    (void)sigdelset(&all, SIGUSR1);
    for (int i = 0; i < 20; i++) {
        work(region, at_once, 2);
        must(raise(SIGUSR1) == 0);
        must_equal(seen, i);
        must(sigsuspend(&all) == -1 && errno == EINTR);
        must_equal(seen, i + 1);
        must_equal(last, 5);
    }
}

static void preserves_errno(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    uint8_t *flipped = map_pages(1, RW);

    for (int i = 1; i < 50; i++) {
        errno = i;
        put(at_once, 7);
        (void)code_call(at_once);
        must_equal(errno, i);
        must(mprotect(flipped, PAGE, i % 2 == 0 ? RW : RX) == 0);
        must_equal(errno, i);
    }
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"stacks", "handlers run on the stack that the program gave, or not, as it said", stacks},
        {"overflow", "a stack overflow is met on the alternate stack", overflow},
        {"small_stack", "an alternate stack as small as the kernel takes it is enough", small_stack},
        {"timers", "SIGALRM and SIGPROF run code while it is flipped and patched", timers},
        {"handler_flips", "so they do when they flip some themselves", handler_flips},
        {"to_threads", "threads that flip and patch get signals whose handler runs code", to_threads},
        {"leaps", "a handler leaps out of whatever it interrupted", leaps},
        {"in_suspend", "sigsuspend lets one signal in, and its handler runs code", in_suspend},
        {"preserves_errno", "errno is as it was", preserves_errno},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
