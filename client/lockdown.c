/* SPDX-License-Identifier: MIT */
/*
 * jitc_lockdown(): from here on this process gets no executable memory but what it has.
 *
 * The order of the steps matters:
 *  1. arenas are sealed: the only step about what stays, and it needs nothing;
 *  2. no_new_privs: Landlock and seccomp demand it of whoever is not root;
 *  3. MDWE, once READ_IMPLIES_EXEC is cleared: it is there even if the filter fails;
 *  4. Landlock: opens files and directories, which a filter may be in the way of;
 *  5. seccomp: last, since it is the one that takes system calls away.
 * A step that fails doesn't stop the others: half a fence is reported, not torn down.
 *
 * The filter is a list of what is denied, not of what is allowed: this is a library,
 * and knows nothing of what its program needs. A system call that a future kernel
 * brings is allowed until it has its row here.
 *
 * A filter that is loaded stays, and of several the strictest answer counts, SIGSYS
 * before an errno. So a further call loads another one if it denies, or traps, what
 * none so far does; what was denied once nobody gets back.
 */
#include "client/lockdown.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/arena_map.h"
#include "client/failure.h"
#include "client/jitclient.h"
#include "client/landlock.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* Linux 6.3 */
#define PR_GET_MDWE 66
#define PR_MDWE_REFUSE_EXEC_GAIN (1UL << 0)
#endif
#ifndef PR_MDWE_NO_INHERIT
#define PR_MDWE_NO_INHERIT (1UL << 1) /* Linux 6.6 */
#endif

/* Flags that say how, not what. */
#define HOWS (JITC_LOCKDOWN_ALLOW_EXEC | JITC_LOCKDOWN_ALLOW_LIBRARIES | JITC_LOCKDOWN_TRAP)

#define PERSONALITY_QUERY 0xffffffffU

/* At most 10 ms, in a process that has threads. */
#define EXIT_WAITS_MAX 10
#define EXIT_WAIT_NS 1000000L

/* The type byte of an ioctl(2) request, and userfaultfd's. */
#define IOCTL_TYPE_MASK 0xff00U
#define IOCTL_TYPE_USERFAULTFD 0xaa00U
/* ARCH_MAP_VDSO_X32, _32 and _64 are 0x2001 to 0x2003. */
#define ARCH_MAP_VDSO_MASK (~3ULL)
#define ARCH_MAP_VDSO_ANY 0x2000ULL

/* ---- What the filter denies ------------------------------------------------ */

#define COMPARES_MAX 2

struct denial {
    const char *name;
    int number;             /* negative where this architecture has no such call */
    uint32_t unless;        /* the flag that leaves it out; 0: none does */
    bool is_trapped;        /* by JITC_LOCKDOWN_TRAP */
    unsigned compare_count; /* of its arguments, which must all be so; 0: whatever they are */
    struct scmp_arg_cmp compares[COMPARES_MAX];
    const char *why;
};

#define CALL(call) .name = #call, .number = SCMP_SYS(call)
/* The bits of a number that are in the mask are all set. */
#define HAS(argument, mask)                            \
    {                                                  \
        (argument), SCMP_CMP_MASKED_EQ, (mask), (mask) \
    }

#define ALWAYS(call, reason)        \
    {                               \
        CALL(call), .why = (reason) \
    }
#define EXECVE(call, reason)                                            \
    {                                                                   \
        CALL(call), .unless = JITC_LOCKDOWN_ALLOW_EXEC, .why = (reason) \
    }
#define WHEN(call, argument, operation, a, b, reason)                                                      \
    {                                                                                                      \
        CALL(call), .compare_count = 1, .compares = {{(argument), (operation), (a), (b)}}, .why = (reason) \
    }

static const struct denial denials[] = {
    /* New executable memory. */
    {CALL(mmap), .unless = JITC_LOCKDOWN_ALLOW_LIBRARIES, .is_trapped = true, .compare_count = 1,
     .compares = {HAS(2, PROT_EXEC)}, .why = "maps a file or fresh pages executable"},
    {CALL(mmap), .is_trapped = true, .compare_count = 1, .compares = {HAS(2, PROT_WRITE | PROT_EXEC)},
     .why = "maps pages that can be written and run"},
    {CALL(mmap), .is_trapped = true, .compare_count = 2,
     .compares = {HAS(2, PROT_EXEC), HAS(3, MAP_ANONYMOUS)},
     .why = "maps pages that are no file's executable"},
    {CALL(mprotect), .is_trapped = true, .compare_count = 1, .compares = {HAS(2, PROT_EXEC)},
     .why = "makes pages executable that were written before"},
    {CALL(pkey_mprotect), .is_trapped = true, .compare_count = 1, .compares = {HAS(2, PROT_EXEC)},
     .why = "is mprotect with one argument more"},
    WHEN(shmat, 2, SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC, "maps System V memory executable, past mmap"),
    WHEN(personality, 0, SCMP_CMP_NE, PERSONALITY_QUERY, 0,
         "READ_IMPLIES_EXEC makes every mmap of readable memory executable"),
    ALWAYS(remap_file_pages, "gives an executable mapping other pages of its file"),
    ALWAYS(uselib, "maps a file executable, past mmap"),
    WHEN(arch_prctl, 0, SCMP_CMP_MASKED_EQ, ARCH_MAP_VDSO_MASK, ARCH_MAP_VDSO_ANY,
         "ARCH_MAP_VDSO_* map another vDSO executable, past mmap"),
    ALWAYS(modify_ldt, "a code segment of one's own makes other instructions out of the same bytes"),

    /* Memory to fill first and make executable after. */
    ALWAYS(memfd_create, "a file in memory, to be mapped twice or executed"),
    ALWAYS(memfd_secret, "the same, hidden from the kernel"),

    /* Changing executable memory where it stands. */
    ALWAYS(userfaultfd, "fills missing pages of an executable mapping (UFFDIO_COPY), which MDWE allows"),
    WHEN(ioctl, 1, SCMP_CMP_MASKED_EQ, IOCTL_TYPE_MASK, IOCTL_TYPE_USERFAULTFD,
         "the same through /dev/userfaultfd, or a userfaultfd that is open already"),
    ALWAYS(ptrace, "writes code pages of a tracee in spite of their protection"),
    ALWAYS(process_vm_writev, "writes the memory of another process"),
    ALWAYS(perf_event_open,
           "a uprobe makes the kernel write into code pages, and run an instruction out of a file"),
    ALWAYS(bpf, "attaches uprobes as well, and its programs write user memory"),

    /* Others who would do it. */
    ALWAYS(pidfd_getfd, "takes a writable descriptor of the arena out of another process"),
    ALWAYS(io_uring_setup, "its operations are system calls that no filter sees"),
    ALWAYS(io_uring_enter, "the same, for a ring that exists already"),
    ALWAYS(io_uring_register, "the same"),
    EXECVE(execve, "a program brings executable memory of its own"),
    EXECVE(execveat, "the same, and from a descriptor without a name"),
};

#define DENIAL_COUNT (sizeof denials / sizeof denials[0])

const char *lockdown_denied_name(size_t index)
{
    return index < DENIAL_COUNT ? denials[index].name : NULL;
}

/* ---- The reasons why something is not in force ------------------------------ */

/* Cut short where it is too long, never overrun. */
struct reasons {
    char text[1024];
    size_t length;
};

static __attribute__((format(printf, 3, 4))) bool reasons_add(struct reasons *reasons, const char *step,
                                                              const char *format, ...)
{
    size_t room = sizeof reasons->text - reasons->length;
    int n = snprintf(reasons->text + reasons->length, room, "%s%s: ", reasons->length ? "; " : "", step);
    if (n < 0 || (size_t)n >= room)
        return false;
    reasons->length += (size_t)n;
    room -= (size_t)n;

    va_list arguments;
    va_start(arguments, format);
    n = vsnprintf(reasons->text + reasons->length, room, format, arguments);
    va_end(arguments);
    if (n > 0)
        reasons->length += (size_t)n < room ? (size_t)n : room - 1;
    return false;
}

/* ---- What the process looks like -------------------------------------------- */

static void close_directory(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}

static void close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

static void free_string(char **string)
{
    free(*string);
}

static void filter_release(scmp_filter_ctx *filter)
{
    if (*filter)
        seccomp_release(*filter);
}

/* Without procfs 2: to count too many promises less than there is, never more. */
static unsigned count_threads(void)
{
    __attribute__((cleanup(close_directory))) DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return 2;
    unsigned count = 0;
    for (const struct dirent *task; (task = readdir(tasks));)
        count += task->d_name[0] != '.';
    return count;
}

/* A thread that was joined is listed until it has left the kernel: it gets a moment to. */
static bool other_threads_exist(void)
{
    for (int i = 0; i < EXIT_WAITS_MAX; i++) {
        if (count_threads() == 1)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = EXIT_WAIT_NS}, NULL);
    }
    return count_threads() != 1;
}

/* A thread to which every new mapping is an executable one; 0 if there is none. */
static long thread_that_reads_as_exec(void)
{
    __attribute__((cleanup(close_directory))) DIR *tasks = opendir("/proc/self/task");
    for (const struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        char path[sizeof "/proc/self/task//personality" + sizeof task->d_name];
        snprintf(path, sizeof path, "/proc/self/task/%s/personality", task->d_name);
        __attribute__((cleanup(close_file))) FILE *file = fopen(path, "re");
        unsigned persona = 0;
        if (file && fscanf(file, "%x", &persona) == 1 && (persona & READ_IMPLIES_EXEC))
            return strtol(task->d_name, NULL, 10);
    }
    return 0;
}

/* The first mapping that is writable and executable at once, as /proc/self/maps has it. */
static bool find_writable_code(char *found, size_t found_bytes)
{
    __attribute__((cleanup(close_file))) FILE *maps = fopen("/proc/self/maps", "re");
    __attribute__((cleanup(free_string))) char *line = NULL;
    size_t line_bytes = 0;
    while (maps && getline(&line, &line_bytes, maps) > 0) {
        const char *permissions = strchr(line, ' ');
        if (permissions && strncmp(permissions + 2, "wx", 2) == 0) {
            snprintf(found, found_bytes, "%.*s", (int)(permissions - line), line);
            return true;
        }
    }
    return false;
}

/* ---- The steps -------------------------------------------------------------- */

/* What one call of jitc_lockdown() asks for, and of which process. */
struct demand {
    uint32_t flags;
    bool has_other_threads;
};

/*
 * What is in force for the whole process, by an earlier call. A child has what its
 * parent had, and the kernel takes none of it back, so it only ever grows. Two threads
 * at once may do a step twice: a filter too many, no harm.
 */
static _Atomic uint32_t in_force;
/* Rows of the filters that are loaded, by their index: what they deny, and what of that they trap. */
static _Atomic uint64_t rows_denied;
static _Atomic uint64_t rows_trapped;
_Static_assert(DENIAL_COUNT <= 64, "a bit for each row");

struct rows {
    uint64_t denied;
    uint64_t trapped;
};

static struct rows rows_of(uint32_t flags)
{
    struct rows rows = {0, 0};

    for (size_t i = 0; i < DENIAL_COUNT; i++) {
        if (denials[i].number < 0 || (flags & denials[i].unless) != 0)
            continue;
        rows.denied |= UINT64_C(1) << i;
        if ((flags & JITC_LOCKDOWN_TRAP) != 0 && denials[i].is_trapped)
            rows.trapped |= UINT64_C(1) << i;
    }
    return rows;
}

/* Of the flags that leave something in place: those for which it is too late. */
static uint32_t allowed_too_late(uint32_t flags)
{
    uint64_t denied = atomic_load(&rows_denied);
    uint32_t late = 0;

    for (size_t i = 0; i < DENIAL_COUNT; i++) {
        if ((denied >> i & 1) != 0)
            late |= flags & denials[i].unless;
    }
    return late;
}

/*
 * Before anything else: under MDWE a process with READ_IMPLIES_EXEC gets no writable
 * memory any more, and until then all that it gets is executable. For the calling thread.
 */
static void clear_read_implies_exec(void)
{
    int persona = personality(PERSONALITY_QUERY);
    if (persona >= 0 && (persona & READ_IMPLIES_EXEC))
        personality((unsigned long)persona & ~(unsigned long)READ_IMPLIES_EXEC);
}

static bool seal_arenas(const struct demand *demand, struct reasons *reasons)
{
    (void)demand;
    int r = arena_map_seal_all();
    if (r == -ENOSYS)
        return reasons_add(reasons, "SEAL_ARENAS", "this kernel has no mseal (Linux 6.10)");
    if (r < 0)
        return reasons_add(reasons, "SEAL_ARENAS", "mseal: %s", strerror(-r));
    return true;
}

/*
 * prctl reaches the calling thread only. Synchronizing a filter, here one that allows
 * everything, makes the kernel set it for all the others.
 */
static bool set_no_new_privs(const struct demand *demand, struct reasons *reasons)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) < 0)
        return reasons_add(reasons, "NO_NEW_PRIVS", "%s", strerror(errno));
    if (!demand->has_other_threads)
        return true;
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (r < 0)
        return reasons_add(reasons, "NO_NEW_PRIVS", "set for the calling thread only: %s", strerror(errno));
    if (r > 0)
        return reasons_add(reasons, "NO_NEW_PRIVS", "not set for thread %ld, which has a filter of its own",
                           r);
    return true;
}

static bool set_mdwe(const struct demand *demand, struct reasons *reasons)
{
    (void)demand;
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0UL, 0UL, 0UL) < 0) {
        if (errno == EINVAL)
            return reasons_add(reasons, "MDWE", "this kernel has no PR_SET_MDWE (Linux 6.3)");
        int set = prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL);
        if (set > 0 && ((unsigned long)set & PR_MDWE_NO_INHERIT))
            return reasons_add(reasons, "MDWE", "set already, but so that children don't inherit it");
        return reasons_add(reasons, "MDWE", "%s", strerror(errno));
    }
    char found[64];
    if (find_writable_code(found, sizeof found))
        return reasons_add(reasons, "MDWE",
                           "set, but the memory at %s is writable and executable already: find who mapped it "
                           "(an executable stack, another JIT)",
                           found);
    return true;
}

static bool restrict_proc(const struct demand *demand, struct reasons *reasons)
{
    char why[256];
    if (landlock_restrict_proc(demand->has_other_threads, why, sizeof why) < 0)
        return reasons_add(reasons, "LANDLOCK", "%s", why);
    return true;
}

static int filter_build(scmp_filter_ctx filter, const struct rows *rows)
{
    /* The caller decides on no_new_privs. Another architecture's calls (int 0x80, x32)
     * would pass every row: no compiled program makes them, so whoever does is killed. */
    int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
    if (r == 0)
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0)
        r = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (r == 0)
        r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    for (size_t i = 0; i < DENIAL_COUNT && r == 0; i++) {
        const struct denial *denial = &denials[i];
        uint32_t action = (rows->trapped >> i & 1) != 0 ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(EPERM);
        if ((rows->denied >> i & 1) != 0)
            r = seccomp_rule_add_array(filter, action, denial->number, denial->compare_count,
                                       denial->compares);
    }
    return r;
}

static bool load_filter(const struct demand *demand, struct reasons *reasons)
{
    const struct rows rows = rows_of(demand->flags);
    long thread = thread_that_reads_as_exec();
    if (thread > 0)
        reasons_add(reasons, "SECCOMP", "thread %ld runs with READ_IMPLIES_EXEC", thread);
    if ((rows.denied & ~atomic_load(&rows_denied)) == 0 && (rows.trapped & ~atomic_load(&rows_trapped)) == 0)
        return thread == 0;

    __attribute__((cleanup(filter_release))) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return reasons_add(reasons, "SECCOMP", "no memory for the filter");
    int r = filter_build(filter, &rows);
    if (r < 0)
        return reasons_add(reasons, "SECCOMP", "can't build the filter: %s", strerror(-r));
    r = seccomp_load(filter);
    if (r == -EACCES || r == -EPERM)
        return reasons_add(reasons, "SECCOMP", "%s: set JITC_LOCKDOWN_NO_NEW_PRIVS as well", strerror(-r));
    if (r == -ESRCH)
        return reasons_add(reasons, "SECCOMP", "another thread has a filter of its own, so none was loaded");
    if (r < 0)
        return reasons_add(reasons, "SECCOMP", "%s", strerror(-r));
    atomic_fetch_or(&rows_denied, rows.denied);
    atomic_fetch_or(&rows_trapped, rows.trapped);
    return thread == 0;
}

struct step {
    uint32_t flag;
    bool once; /* not to be repeated once it is in force */
    bool (*take)(const struct demand *demand, struct reasons *reasons);
};

static const struct step steps[] = {
    {JITC_LOCKDOWN_SEAL_ARENAS, false, seal_arenas}, /* an arena may have come since */
    {JITC_LOCKDOWN_NO_NEW_PRIVS, true, set_no_new_privs},
    {JITC_LOCKDOWN_MDWE, true, set_mdwe},
    {JITC_LOCKDOWN_LANDLOCK, true, restrict_proc},
    {JITC_LOCKDOWN_SECCOMP, false, load_filter}, /* execve may have to go as well */
};

uint32_t jitc_lockdown(uint32_t flags)
{
    struct reasons reasons = {.length = 0};
    if ((flags & ~HOWS) == 0)
        flags |= JITC_LOCKDOWN_ALL;

    uint32_t missing = flags & ~(JITC_LOCKDOWN_ALL | HOWS);
    if (missing)
        reasons_add(&reasons, "flags", "0x%x is unknown to this version", missing);
    if (flags & (JITC_LOCKDOWN_MDWE | JITC_LOCKDOWN_SECCOMP))
        clear_read_implies_exec();
    const struct demand demand = {.flags = flags, .has_other_threads = other_threads_exist()};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (!(flags & steps[i].flag) || (steps[i].once && (atomic_load(&in_force) & steps[i].flag)))
            continue;
        if (steps[i].take(&demand, &reasons))
            atomic_fetch_or(&in_force, steps[i].flag);
        else
            missing |= steps[i].flag;
    }
    uint32_t late = allowed_too_late(flags);
    if (late & JITC_LOCKDOWN_ALLOW_EXEC)
        reasons_add(&reasons, "ALLOW_EXEC", "an earlier call denied execve, and that stays");
    if (late & JITC_LOCKDOWN_ALLOW_LIBRARIES)
        reasons_add(&reasons, "ALLOW_LIBRARIES",
                    "an earlier call denied files that are executable, and that stays");
    missing |= late;
    if (missing)
        (void)failure_set(JITC_E_SYSTEM, "not in force: %s", reasons.text);
    return missing;
}
