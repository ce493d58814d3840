/* SPDX-License-Identifier: MIT */
#include "preload/signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "preload/code.h"
#include "preload/counters.h"
#include "preload/family.h"
#include "preload/lock.h"
#include "preload/mapping.h"
#include "preload/settings.h"
#include "preload/step.h"
#include "preload/system.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code */
#endif
/* The kernel's page fault error code, in REG_ERR. */
#define FAULT_STORE 0x2
#define FAULT_FETCH 0x10
/* A thread that retried so often in vain was not slower than others each time ... */
#define RETRIES_MAX 3u
/* ... and one for which that had to be put right so often, it gets nowhere. */
#define ODD_MAX 1000u

typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);

static sigaction_function *next_sigaction;
static struct sigaction segv_action; /* the program's */
static struct sigaction sys_action;
static struct sigaction trap_action;
static struct sigaction family_action;
static bool handles_family; /* from when on there was one */

/* NULL: the signal is the program's alone. */
static struct sigaction *kept_action(int number)
{
    switch (number) {
    case SIGSEGV:
        return &segv_action;
    case SIGSYS:
        return &sys_action;
    case SIGTRAP:
        return &trap_action;
    case FAMILY_SIGNAL:
        return handles_family ? &family_action : NULL;
    default:
        return NULL;
    }
}

static uint64_t *bits(sigset_t *set)
{
    return (uint64_t *)set;
}

static const uint64_t ours =
    UINT64_C(1) << (SIGSEGV - 1) | UINT64_C(1) << (SIGSYS - 1) | UINT64_C(1) << (SIGTRAP - 1);

static void set_mask(uint64_t mask)
{
    (void)system_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask, 0, 0);
}

/* ---- The program's handlers ------------------------------------------------------------------ */

/* What would have happened without us. Where that is the default, for a signal that was sent, it is sent
 * again; the instruction that ran into it runs into it again. */
static void end_by(int number, const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    long thread = system_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    long process = system_call(SYS_getpid, 0, 0, 0, 0, 0, 0);

    (void)next_sigaction(number, &action, NULL);
    if (info->si_code <= 0 || number == SIGSYS)
        (void)system_call(SYS_tgkill, process, thread, number, 0, 0, 0);
}

static void pass_on(int number, siginfo_t *info, void *user)
{
    struct sigaction *kept = kept_action(number);
    ucontext_t *context = user;
    struct sigaction action;
    uint64_t mask = *bits(&context->uc_sigmask);

    lock_enter();
    action = *kept;
    if (((unsigned)action.sa_flags & SA_RESETHAND) != 0)
        kept->sa_handler = SIG_DFL;
    lock_leave();
    if (action.sa_handler == SIG_IGN && info->si_code <= 0)
        return;
    if (action.sa_handler == SIG_DFL && number == FAMILY_SIGNAL)
        return; /* so it is by default */
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
        end_by(number, info);
        return;
    }
    set_mask((mask | *bits(&action.sa_mask)) & ~ours);
    if ((action.sa_flags & SA_SIGINFO) != 0)
        action.sa_sigaction(number, info, user);
    else
        action.sa_handler(number);
}

/* ---- Ours --------------------------------------------------------------------------------------- */

/* Of this thread. */
static _Thread_local struct {
    unsigned retries; /* since a fault was dealt with */
    unsigned odd;     /* faults in a row that were not to be expected */
} faults __attribute__((tls_model("initial-exec")));

static bool deal_with(uintptr_t address, enum code_access access, ucontext_t *context)
{
    bool is_odd = faults.retries >= RETRIES_MAX;
    enum code_answer answer;
    uint64_t start;

    lock_enter();
    start = counters_now();
    answer = code_fault_locked(address, access, is_odd, context);
    if (answer == CODE_FOREIGN)
        (void)step_end(context, false);
    counters.all_ns += counters_now() - start;
    lock_leave();
    if (answer == CODE_RETRY) {
        faults.retries++;
        (void)system_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
        return true;
    }
    faults.retries = 0;
    faults.odd = is_odd ? faults.odd + 1 : 0;
    if (faults.odd <= ODD_MAX)
        return answer == CODE_DONE;
    settings_log("the instruction at %#llx does not get past its access to %#lx",
                 context->uc_mcontext.gregs[REG_RIP], (unsigned long)address);
    return false;
}

static void on_segv(int number, siginfo_t *info, void *user)
{
    ucontext_t *context = user;
    greg_t error = context->uc_mcontext.gregs[REG_ERR];
    enum code_access access = (error & FAULT_FETCH) != 0   ? CODE_FETCH
                              : (error & FAULT_STORE) != 0 ? CODE_STORE
                                                           : CODE_READ;
    int saved = errno;
    bool is_ours = info->si_code > 0 && deal_with((uintptr_t)info->si_addr, access, context);

    errno = saved;
    if (!is_ours)
        pass_on(number, info, user);
}

/* A step of ours is done, see step.h. */
static void on_trap(int number, siginfo_t *info, void *user)
{
    bool is_ours;

    lock_enter();
    is_ours = step_end(user, true);
    lock_leave();
    if (!is_ours)
        pass_on(number, info, user);
}

/* Another process of the family writes code. */
static void on_family(int number, siginfo_t *info, void *user)
{
    int saved = errno;

    if (!family_is_stopped(info))
        pass_on(number, info, user);
    errno = saved;
}

/* A system call that the filter did not let through: done here, or by what it would have said otherwise. */
static void on_sys(int number, siginfo_t *info, void *user)
{
    greg_t *registers = ((ucontext_t *)user)->uc_mcontext.gregs;
    int saved = errno;
    long result;

    if (info->si_code != SYS_SECCOMP) {
        pass_on(number, info, user);
        return;
    }
    counters.traps++;
    faults.odd = 0;
    switch (info->si_syscall) {
    case SYS_mmap:
        result =
            mapping_mmap((uintptr_t)registers[REG_RDI], (uint64_t)registers[REG_RSI], (int)registers[REG_RDX],
                         (int)registers[REG_R10], (int)registers[REG_R8], registers[REG_R9]);
        break;
    case SYS_mprotect:
    case SYS_pkey_mprotect:
        result = code_mprotect((uintptr_t)registers[REG_RDI], (uint64_t)registers[REG_RSI],
                               (int)registers[REG_RDX]);
        break;
    default:
        pass_on(number, info, user);
        return;
    }
    registers[REG_RAX] = result;
    errno = saved;
}

static const struct {
    int number;
    void (*handler)(int, siginfo_t *, void *);
} handlers[] = {{SIGSEGV, on_segv}, {SIGSYS, on_sys}, {SIGTRAP, on_trap}, {FAMILY_SIGNAL, on_family}};

#define HANDLERS (sizeof handlers / sizeof handlers[0])

void signals_check(void)
{
    for (size_t i = 0; i < HANDLERS; i++) {
        struct sigaction action = {.sa_sigaction = handlers[i].handler,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        struct sigaction old;

        if (handlers[i].number == FAMILY_SIGNAL && !family_has_begun())
            continue;
        if (next_sigaction(handlers[i].number, NULL, &old) != 0 || old.sa_sigaction == handlers[i].handler)
            continue;
        handles_family = handles_family || handlers[i].number == FAMILY_SIGNAL;
        *kept_action(handlers[i].number) = old;
        *bits(&action.sa_mask) = ~UINT64_C(0);
        (void)next_sigaction(handlers[i].number, &action, NULL);
    }
}

void signals_init(void)
{
    uint64_t mask = ours;

    if (next_sigaction != NULL)
        return;
    next_sigaction = (sigaction_function *)dlsym(RTLD_NEXT, "sigaction");
    (void)system_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, 0, sizeof mask, 0, 0);
    signals_check();
}

/* ---- For the program ------------------------------------------------------------------------------ */

int signals_action(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction *kept = kept_action(number);
    struct sigaction changed;
    uint64_t mask;

    signals_init();
    if (action != NULL) {
        changed = *action;
        *bits(&changed.sa_mask) &= ~ours;
    }
    if (kept == NULL)
        return next_sigaction(number, action != NULL ? &changed : NULL, old);
    lock_take(&mask);
    changed = *kept;
    if (action != NULL)
        *kept = *action;
    if (old != NULL)
        *old = changed;
    lock_drop(&mask);
    return 0;
}

/* The kernel's, which libc's is made of. */
struct kernel_action {
    union {
        sighandler_t handler;
        void (*action)(int, siginfo_t *, void *);
    };
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

long signals_action_of_kernel(const long *argument)
{
    int number = (int)argument[0];
    const struct kernel_action *action = (const struct kernel_action *)argument[1];
    struct kernel_action *old = (struct kernel_action *)argument[2];
    struct sigaction wanted = {.sa_flags = 0};
    struct sigaction found;

    if (kept_action(number) == NULL || argument[3] != (long)sizeof action->mask)
        return system_call(SYS_rt_sigaction, argument[0], argument[1], argument[2], argument[3], 0, 0);
    if (action != NULL) {
        wanted.sa_sigaction = action->action;
        wanted.sa_flags = (int)action->flags;
        *bits(&wanted.sa_mask) = action->mask;
    }
    (void)signals_action(number, action != NULL ? &wanted : NULL, &found);
    if (old != NULL) {
        old->action = found.sa_sigaction;
        old->flags = (unsigned)found.sa_flags;
        old->restorer = NULL;
        old->mask = *bits(&found.sa_mask);
    }
    return 0;
}

int signals_mask(int how, const sigset_t *set, sigset_t *old)
{
    uint64_t mask = set != NULL ? *(const uint64_t *)set : 0;

    if (how != SIG_UNBLOCK)
        mask &= ~ours;
    return (int)system_call(SYS_rt_sigprocmask, how, set != NULL ? (long)&mask : 0, (long)old, sizeof mask, 0,
                            0);
}

const sigset_t *signals_allowed(const sigset_t *mask, sigset_t *allowed)
{
    if (mask == NULL)
        return NULL;
    *allowed = *mask;
    *bits(allowed) &= ~ours;
    return allowed;
}
