/* SPDX-License-Identifier: MIT */
/*
 * A program for jitbroker-run, that knows nothing of it: tells in what state it was started, or makes code.
 *   run_probe WORD...: does each in turn, and prints what comes of it, a line each.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/code.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

static const size_t page = 4096;

static int run(void *memory)
{
    return memory == MAP_FAILED ? -errno : (int)code_call(memory);
}

/* What a JIT compiler does: the number that the code returns, or -errno. */
static int flip(void)
{
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    (void)code_return(memory, 41);
    return mprotect(memory, page, PROT_READ | PROT_EXEC) == 0 ? run(memory) : -errno;
}

static int write_and_run(void)
{
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory != MAP_FAILED)
        (void)code_return(memory, 42);
    return run(memory);
}

static void print_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");

    if (directory == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
            (void)printf("fd %s\n", entry->d_name);
    }
    (void)closedir(directory);
}

/* Lines of /proc/self/status that begin so. */
static void print_status(const char *field)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0)
            (void)fputs(line, stdout);
    }
    if (file != NULL)
        (void)fclose(file);
}

static int number_or_errno(long result)
{
    return result >= 0 ? 0 : -errno;
}

/* The parent ends, and the child goes on when standard input has ended. */
static void linger(void)
{
    char byte;

    (void)fflush(stdout);
    if (fork() != 0)
        _exit(0);
    (void)setsid();
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
}

static void close_up_to(int last)
{
    for (int fd = 3; fd < last; fd++)
        (void)close(fd);
}

static void run_child(const char *self, const char *word)
{
    pid_t pid;
    int status;

    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        (void)execl(self, self, word, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, &status, 0);
    (void)printf("child %d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
}

/* From now on the kernel answers the call with that errno: "NUMBER:ERRNO". */
static int refuse(const char *what)
{
    unsigned number = (unsigned)atoi(what);
    unsigned error = strchr(what, ':') != NULL ? (unsigned)atoi(strchr(what, ':') + 1) : EPERM;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};

    (void)prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
    return number_or_errno(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* Becomes the program anew, with sockets that are its own where the launcher's was. */
static void start_again(const char *self, const char *word)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0)
        exit(97);
    for (int fd = 900; fd < 906; fd++)
        (void)syscall(SYS_dup3, ends[0], fd, 0); /* dup3() leaves the library's alone */
    (void)printf("again\n");
    (void)fflush(stdout);
    (void)execl(self, self, word, "fds", (char *)NULL);
}

static bool act(const char *self, const char *word)
{
    const char *value = strchr(word, '=') != NULL ? strchr(word, '=') + 1 : "";

    if (strcmp(word, "jit") == 0)
        (void)printf("jit %d\n", flip());
    else if (strcmp(word, "rwx") == 0)
        (void)printf("rwx %d\n", write_and_run());
    else if (strcmp(word, "memfd") == 0)
        (void)printf("memfd %d\n", number_or_errno(memfd_create("probe", MFD_CLOEXEC)));
    else if (strcmp(word, "mem") == 0)
        (void)printf("mem %d\n", number_or_errno(open("/proc/self/mem", O_RDWR | O_CLOEXEC)));
    else if (strcmp(word, "mdwe") == 0)
        (void)printf("mdwe %d\n", prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL));
    else if (strcmp(word, "wait") == 0)
        (void)printf("wait %d\n", number_or_errno(waitpid(-1, NULL, 0)));
    else if (strcmp(word, "fds") == 0)
        print_fds();
    else if (strncmp(word, "refuse=", 7) == 0)
        (void)printf("refuse %d\n", refuse(value));
    else if (strncmp(word, "again=", 6) == 0)
        start_again(self, value);
    else if (strcmp(word, "linger") == 0)
        linger();
    else if (strncmp(word, "close=", 6) == 0)
        close_up_to(atoi(value));
    else if (strncmp(word, "status=", 7) == 0)
        print_status(value);
    else if (strncmp(word, "child=", 6) == 0)
        run_child(self, value);
    else if (strncmp(word, "env=", 4) == 0)
        (void)printf("%s\n", getenv(value) != NULL ? getenv(value) : "(unset)");
    else if (strncmp(word, "exit=", 5) == 0)
        exit(atoi(value));
    else if (strncmp(word, "kill=", 5) == 0)
        (void)kill(getpid(), atoi(value));
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "arguments") == 0) {
        for (int i = 0; i < argc; i++)
            (void)printf("<%s>\n", argv[i]);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "exec") == 0) { /* what follows */
            (void)fflush(stdout);
            (void)execv(argv[i + 1], argv + i + 1);
            return 98;
        }
        if (!act(argv[0], argv[i]))
            return 99;
    }
    return 0;
}
