/* SPDX-License-Identifier: MIT */
#include "tests/preload/program.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#define SKIPPED 77

void (*program_tell)(void);

void program_fail(const char *file, int line, const char *what, const char *how)
{
    int error = errno;
    const char *name = strrchr(file, '/');

    (void)fprintf(stderr, "  %s:%d: %s%s (errno %d, %s)\n", name != NULL ? name + 1 : file, line, what, how,
                  error, strerror(error));
    if (program_tell != NULL)
        program_tell();
    _exit(EXIT_FAILURE);
}

void program_skip(const char *why)
{
    (void)printf("  skipped: %s\n", why);
    (void)fflush(stdout);
    _exit(SKIPPED);
}

static const char *verdict(int status, char *room, size_t bytes)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return "ok     ";
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        return "skipped";
    if (WIFSIGNALED(status))
        (void)snprintf(room, bytes, "FAILED (%s)", strsignal(WTERMSIG(status)));
    else
        (void)snprintf(room, bytes, "FAILED (%d)", WEXITSTATUS(status));
    return room;
}

static bool is_limit(const char *name, char *const limits[])
{
    while (*limits != NULL && strcmp(*limits, name) != 0)
        limits++;
    return *limits != NULL;
}

/* True unless it failed, or passed though it is said not to. */
static bool run_apart(const char *program, const struct program_case *one, bool is_limited)
{
    char room[64];
    int status = 0;
    bool passed;
    pid_t child = fork();

    must(child >= 0);
    if (child == 0) {
        (void)setpgid(0, 0);
        (void)execl("/proc/self/exe", program, one->name, (char *)NULL);
        _exit(127);
    }
    must(waitpid(child, &status, 0) == child);
    (void)kill(-child, SIGKILL); /* children of one that failed */
    passed = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == SKIPPED);
    (void)printf("%s%s %s: %s\n", is_limited ? passed ? "NO LIMIT ANY MORE " : "limit " : "",
                 verdict(status, room, sizeof room), one->name, one->shows);
    (void)fflush(stdout);
    return passed != is_limited;
}

static const struct program_case *find_case(const char *name, const struct program_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, cases[i].name) == 0)
            return &cases[i];
    }
    (void)fprintf(stderr, "there is no case %s\n", name);
    exit(2);
}

int program_main(int argc, char **argv, const struct program_case *cases, size_t count)
{
    char **limits = argv + argc;
    bool passed = true;

    if (argc > 1 && strcmp(argv[1], "--limits") == 0) {
        limits = argv + 2;
        for (char **name = limits; *name != NULL; name++)
            (void)find_case(*name, cases, count);
    } else if (argc > 1) {
        find_case(argv[1], cases, count)->run();
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < count; i++)
        passed = run_apart(argv[0], &cases[i], is_limit(cases[i].name, limits)) && passed;
    return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}

uint8_t *map_pages(size_t pages, int protection)
{
    void *at = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must(at != MAP_FAILED);
    return at;
}

void protect(void *at, size_t bytes, int protection)
{
    must(mprotect(at, bytes, protection) == 0);
}

void unmap(void *at, size_t bytes)
{
    must(munmap(at, bytes) == 0);
}

bool is_zero(const uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] != 0)
            return false;
    }
    return true;
}

void must_pass(pid_t child)
{
    int status = 0;

    must(waitpid(child, &status, 0) == child);
    must_equal(status, 0);
}

void must_die(pid_t child, int signal)
{
    int status = 0;

    must(waitpid(child, &status, 0) == child);
    must(WIFSIGNALED(status));
    must_equal(WTERMSIG(status), signal);
}

pid_t split(void)
{
    pid_t child = fork();

    must(child >= 0);
    return child;
}

unsigned count_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    unsigned lines = 0;
    int c;

    must(file != NULL);
    while ((c = getc(file)) != EOF)
        lines += c == '\n';
    (void)fclose(file);
    return lines;
}

unsigned count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    must(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count - 3; /* ".", "..", and the folder's own */
}

long resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long total;
    long resident;

    must(file != NULL);
    must(fscanf(file, "%ld %ld", &total, &resident) == 2);
    (void)fclose(file);
    return resident * (long)(PAGE / 1024);
}

static _Thread_local sigjmp_buf back;
static _Thread_local volatile bool trying;
static _Thread_local uint8_t *volatile met;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    char how[64];

    (void)signal;
    (void)context;
    if (!trying) {
        (void)snprintf(how, sizeof how, ", at %p", info->si_addr);
        program_fail(__FILE__, __LINE__, "a fault that nobody expected", how);
    }
    met = info->si_addr;
    siglongjmp(back, 1);
}

void faults_start(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    must(sigaction(SIGSEGV, &action, NULL) == 0);
}

/* The body of each of the three: `access` in a place from which it comes back. */
#define TRY(at, access)                                  \
    do {                                                 \
        if (sigsetjmp(back, 1) != 0) {                   \
            trying = false;                              \
            must_equal((uintptr_t)met, (uintptr_t)(at)); \
            return true;                                 \
        }                                                \
        trying = true;                                   \
        access;                                          \
        trying = false;                                  \
        return false;                                    \
    } while (0)

bool faults_read(const uint8_t *at)
{
    TRY(at, (void)*(const volatile uint8_t *)at);
}

bool faults_write(uint8_t *at)
{
    TRY(at, __asm__ volatile("lock orb $0, %0" : "+m"(*at)));
}

bool faults_call(const uint8_t *at)
{
    TRY(at, (void)code_call(at));
}
