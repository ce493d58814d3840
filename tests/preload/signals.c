/* SPDX-License-Identifier: MIT */
/*
 * A program's own signal handlers and masks, beside code that is flipped and patched: all must be as
 * the program set it, and what it made of its memory must work whatever it did to signals.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/preload/signals_steps.h"

static void *null(void)
{
    void *volatile at = NULL;

    return at;
}

static void jump_back(int signal, siginfo_t *info, void *context)
{
    (void)context;
    must_equal(signal, SIGSEGV);
    must(info->si_addr == NULL && info->si_code == SEGV_MAPERR);
    siglongjmp(back, 1);
}

static void null_repaired(void)
{
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(2, RWX);

    handle(SIGSEGV, jump_back, 0);
    for (volatile int i = 0; i < 1000; i++) {
        if (sigsetjmp(back, 1) == 0) {
            *(volatile int *)null() = 1;
            program_fail(__FILE__, __LINE__, "the store to nowhere went through", "");
        }
        work(flipped, at_once, 1);
    }
}

static void open_page(int signal, siginfo_t *info, void *context)
{
    uint8_t *at = info->si_addr;

    (void)signal;
    (void)context;
    must(at >= region && at < region + 64 * PAGE);
    must_equal(info->si_code, SEGV_ACCERR);
    seen++;
    protect((void *)((uintptr_t)at & ~(PAGE - 1)), PAGE, RW);
}

static void guard_opened(void)
{
    region = map_pages(64, PROT_NONE);
    handle(SIGSEGV, open_page, 0);
    for (size_t page = 0; page < 64; page++)
        put(region + page * PAGE, page);
    must_equal(seen, 64);
    protect(region, 64 * PAGE, RX);
    for (size_t page = 0; page < 64; page++)
        must_return(region + page * PAGE, page);
}

/* Compiles what was called. */
static void compile(int signal, siginfo_t *info, void *context)
{
    uint8_t *at = info->si_addr;

    (void)signal;
    must(at >= region && at < region + 64 * PAGE);
    must_equal((uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP], (uintptr_t)at);
    seen++;
    protect(at, PAGE, RW);
    put(at, (size_t)(at - region));
    protect(at, PAGE, RX);
}

static void compiled_when_called(void)
{
    region = map_pages(64, PROT_NONE);
    handle(SIGSEGV, compile, 0);
    for (size_t round = 0; round < 2; round++) {
        for (size_t page = 0; page < 64; page++)
            must_return(region + page * PAGE, page * PAGE);
    }
    must_equal(seen, 64);
}

/* A store to code: the program finds out by itself, as a collector's write barrier does. */
static void barrier(void)
{
    region = map_pages(64, RW);
    handle(SIGSEGV, open_page, 0);
    for (size_t page = 0; page < 64; page++)
        put(region + page * PAGE, page);
    protect(region, 64 * PAGE, RX);
    for (size_t page = 0; page < 64; page += 2)
        put(region + page * PAGE, page + 1000);
    must_equal(seen, 32);
    protect(region, 64 * PAGE, RX);
    for (size_t page = 0; page < 64; page++)
        must_return(region + page * PAGE, page % 2 == 0 ? page + 1000 : page);
}

static void note_call(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    last = (uint32_t)info->si_syscall;
    seen++;
}

static void own_sigsys(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof rules[0], rules};
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(2, RWX);

    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    handle(SIGSYS, note_call, 0);
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0);
    work(flipped, at_once, 10);
    must_equal(seen, 0);
    (void)syscall(SYS_getpriority, 0, 0);
    must_equal(seen, 1);
    must_equal(last, SYS_getpriority);
    must(raise(SIGSYS) == 0);
    must_equal(seen, 2);
    work(flipped, at_once, 10);
    must_equal(seen, 2);
}

static void nothing(int signal)
{
    (void)signal;
}

static void nothing_more(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
}

static void remembered(void)
{
    static const int signals[] = {SIGSEGV, SIGSYS, SIGBUS, SIGTRAP, SIGUSR1};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART | SA_ONSTACK};
        struct sigaction old;

        must(sigaction(signals[i], NULL, &old) == 0);
        must(old.sa_handler == SIG_DFL && old.sa_flags == 0);
        must(sigaddset(&action.sa_mask, SIGUSR2) == 0);
        must(sigaction(signals[i], &action, &old) == 0);
        must(old.sa_handler == SIG_DFL);
        must(sigaction(signals[i], NULL, &old) == 0);
        must(old.sa_handler == nothing);
        must_equal((unsigned)old.sa_flags & ~0x04000000u,
                   SA_RESTART | SA_ONSTACK); /* SA_RESTORER is libc's */
        must(sigismember(&old.sa_mask, SIGUSR2) == 1 && sigismember(&old.sa_mask, SIGUSR1) == 0);
        handle(signals[i], nothing_more, SA_NODEFER);
        must(sigaction(signals[i], NULL, &old) == 0);
        must(old.sa_sigaction == nothing_more);
        must_equal((unsigned)old.sa_flags & ~0x04000000u, SA_SIGINFO | SA_NODEFER);
        must(signal(signals[i], SIG_IGN) == (sighandler_t)(uintptr_t)nothing_more);
        must(signal(signals[i], nothing) == SIG_IGN);
        must(signal(signals[i], SIG_DFL) == nothing);
    }
    errno = 0;
    must(sigaction(SIGKILL, &(struct sigaction){.sa_handler = nothing}, NULL) == -1 && errno == EINVAL);
}

static void defaults(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    pid_t child;

    work(NULL, at_once, 3);
    child = split();
    if (child == 0) {
        *(volatile int *)null() = 1;
        _exit(0);
    }
    must_die(child, SIGSEGV);
    child = split();
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_IGN);
        work(NULL, at_once, 3);
        must(raise(SIGSEGV) == 0); /* ignored */
        work(NULL, at_once, 3);
        *(volatile int *)null() = 1; /* not to be ignored */
        _exit(0);
    }
    must_die(child, SIGSEGV);
    child = split();
    if (child == 0) {
        work(NULL, at_once, 3);
        (void)raise(SIGSYS);
        _exit(0);
    }
    must_die(child, SIGSYS);
    child = split();
    if (child == 0) {
        (void)signal(SIGSYS, SIG_IGN);
        (void)raise(SIGSYS);
        work(map_pages(2, RW), at_once, 3);
        _exit(0);
    }
    must_pass(child);
}

static void reset_and_jump(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    siglongjmp(back, 1);
}

static void reset(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    struct sigaction old;
    pid_t child = split();

    if (child == 0) {
        handle(SIGSEGV, reset_and_jump, SA_RESETHAND);
        work(NULL, at_once, 10); /* not a fault of the program */
        if (sigsetjmp(back, 1) == 0)
            *(volatile int *)null() = 1;
        must(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
        work(NULL, at_once, 10);
        *(volatile int *)null() = 1;
        _exit(0);
    }
    must_die(child, SIGSEGV);
}

static void fault_within(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    work(region, other, 2);
    if (++seen < 10)
        *(volatile int *)null() = 1;
    siglongjmp(back, 1);
}

static void nested(void)
{
    region = map_pages(2, RW);
    other = map_pages(2, RWX);
    handle(SIGSEGV, fault_within, SA_NODEFER);
    if (sigsetjmp(back, 1) == 0)
        *(volatile int *)null() = 1;
    must_equal(seen, 10);
    work(region, other, 10);
}

static sigset_t mask_seen; /* by a handler */

static void work_and_jump(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    must(sigprocmask(SIG_BLOCK, NULL, &mask_seen) == 0);
    work(region, other, 5);
    seen++;
    siglongjmp(back, 1);
}

/* Without SA_NODEFER, and with everything blocked: code still runs in the handler. */
static void in_handler(void)
{
    struct sigaction action = {.sa_sigaction = work_and_jump, .sa_flags = SA_SIGINFO};
    sigset_t mask;

    region = map_pages(2, RW);
    other = map_pages(2, RWX);
    (void)sigfillset(&action.sa_mask);
    must(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    for (volatile int i = 0; i < 20; i++) {
        if (sigsetjmp(back, 1) == 0) {
            if (i % 2 == 0)
                *(volatile int *)null() = 1;
            (void)raise(SIGALRM);
        }
        must(sigismember(&mask_seen, SIGUSR2) == 1 && sigismember(&mask_seen, SIGALRM) == 1);
        must(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR2) == 0);
    }
    must_equal(seen, 20);
}

static void mask_in_handler(void)
{
    sigset_t mask;

    (void)sigemptyset(&mask_seen);
    handle(SIGSEGV, work_and_jump, 0);
    region = map_pages(2, RW);
    other = map_pages(2, RWX);
    if (sigsetjmp(back, 1) == 0)
        *(volatile int *)null() = 1;
    must(sigismember(&mask_seen, SIGSEGV) == 1 && sigismember(&mask_seen, SIGALRM) == 0);
    must(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGSEGV) == 0);
}

static void mask_reads_back(void)
{
    sigset_t all;
    sigset_t mask;

    (void)sigfillset(&all);
    must(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    work(map_pages(2, RW), map_pages(2, RWX), 5);
    must(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    must(sigismember(&mask, SIGSEGV) == 1 && sigismember(&mask, SIGSYS) == 1);
    must(pthread_sigmask(SIG_UNBLOCK, &all, &mask) == 0);
    must(sigismember(&mask, SIGSEGV) == 1 && sigismember(&mask, SIGSYS) == 1);
}

static void fault_while_blocked(void)
{
    sigset_t all;
    pid_t child = split();

    (void)sigfillset(&all);
    if (child == 0) {
        handle(SIGSEGV, jump_back, 0);
        must(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
        if (sigsetjmp(back, 1) == 0)
            *(volatile int *)null() = 1; /* who blocks it dies of it, handler or not */
        _exit(0);
    }
    must_die(child, SIGSEGV);
}

static void blocked(void)
{
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(2, RWX);
    sigset_t all;
    sigset_t mask;

    (void)sigfillset(&all);
    must(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    work(flipped, at_once, 20);
    must(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    must(sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGKILL) == 0);
    must(pthread_sigmask(SIG_UNBLOCK, &all, &mask) == 0);
    must(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    must(sigismember(&mask, SIGSEGV) == 0 && sigismember(&mask, SIGTERM) == 0);
    work(flipped, at_once, 20);
}

static void count(int signal)
{
    (void)signal;
    seen++;
}

static void sent_while_blocked(void)
{
    uint8_t *at_once = map_pages(2, RWX);
    sigset_t some;
    sigset_t pending;

    (void)signal(SIGSEGV, count);
    (void)signal(SIGSYS, count);
    (void)sigemptyset(&some);
    (void)sigaddset(&some, SIGSEGV);
    (void)sigaddset(&some, SIGSYS);
    must(sigprocmask(SIG_BLOCK, &some, NULL) == 0);
    must(kill(getpid(), SIGSYS) == 0);
    must_equal(seen, 0);
    must(sigpending(&pending) == 0 && sigismember(&pending, SIGSYS) == 1);
    work(NULL, at_once, 5);
    must(kill(getpid(), SIGSEGV) == 0);
    must_equal(seen, 0);
    must(sigprocmask(SIG_UNBLOCK, &some, NULL) == 0);
    must_equal(seen, 2);
    work(NULL, at_once, 5);
}

/* As the kernel takes it: who calls it by himself is not seen by whoever interposes the library's. */
struct kernel_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

void restore(void);
__asm__(
    ".pushsection .text\n.globl restore\n.hidden restore\nrestore: mov $15, %eax\n syscall\n.popsection\n");

static void by_raw_call(void)
{
    struct kernel_sigaction action = {jump_back, SA_SIGINFO | 0x04000000, restore, 0};
    struct kernel_sigaction old;
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(2, RWX);

    work(flipped, at_once, 3);
    must(syscall(SYS_rt_sigaction, SIGSEGV, &action, &old, 8) == 0);
    must(old.handler == NULL);
    action.handler = note_call;
    must(syscall(SYS_rt_sigaction, SIGSYS, &action, &old, 8) == 0);
    must(old.handler == NULL);
    work(flipped, at_once, 3);
    must_equal(seen, 0);
    for (volatile int i = 0; i < 10; i++) {
        if (sigsetjmp(back, 1) == 0)
            *(volatile int *)null() = 1;
        work(flipped, at_once, 1);
    }
    must(raise(SIGSYS) == 0);
    must_equal(seen, 1);
}

static void raw_mask(void)
{
    uint64_t all = ~UINT64_C(0);
    uint8_t *flipped = map_pages(2, RW);
    uint8_t *at_once = map_pages(2, RWX);

    must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8) == 0);
    work(flipped, at_once, 5);
}

static void *work_blocked(void *unused)
{
    (void)unused;
    work(map_pages(2, RW), map_pages(1, RWX), 50);
    return NULL;
}

static void threads_of_blocked(void)
{
    pthread_t threads[4];
    sigset_t all;

    (void)sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    for (size_t i = 0; i < 4; i++)
        must(pthread_create(&threads[i], NULL, work_blocked, NULL) == 0);
    for (size_t i = 0; i < 4; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"null_repaired", "a handler of SIGSEGV leaves by siglongjmp, a thousand times", null_repaired},
        {"guard_opened", "a handler of SIGSEGV opens the guard page that was touched", guard_opened},
        {"compiled_when_called", "a handler of SIGSEGV makes the code that was called", compiled_when_called},
        {"barrier", "a handler of SIGSEGV makes code writable that was written to", barrier},
        {"own_sigsys", "a handler of SIGSYS serves a filter of the program's own", own_sigsys},
        {"remembered", "sigaction and signal tell what was set before, flags and mask included", remembered},
        {"defaults", "without a handler, or ignored, a fault ends the program, and a sent signal as set",
         defaults},
        {"reset", "SA_RESETHAND: the first fault is handled, the second is the end", reset},
        {"nested", "SA_NODEFER: a handler faults in its turn, ten deep", nested},
        {"in_handler", "code is flipped and patched in a handler with all signals blocked", in_handler},
        {"mask_in_handler", "in a handler of SIGSEGV the mask says that SIGSEGV is blocked", mask_in_handler},
        {"blocked", "with all signals blocked code is flipped and patched", blocked},
        {"mask_reads_back", "a mask with SIGSEGV and SIGSYS reads as it was set", mask_reads_back},
        {"fault_while_blocked", "a fault while SIGSEGV is blocked ends the program", fault_while_blocked},
        {"sent_while_blocked", "SIGSEGV and SIGSYS that were sent while blocked come afterwards",
         sent_while_blocked},
        {"by_raw_call", "handlers that were set by a system call of the program's own", by_raw_call},
        {"raw_mask", "a mask that was set by a system call of the program's own", raw_mask},
        {"threads_of_blocked", "threads that were born with all signals blocked flip and patch",
         threads_of_blocked},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
