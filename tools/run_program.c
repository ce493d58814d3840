/* SPDX-License-Identifier: MIT */
/*
 * The reasons for which a program would run without the library, or against it. Each is told in one
 * line with what to do, since otherwise the program would just die, or run unserved.
 */
#include "tools/run_program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/run.h"

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#define OUR_MACHINE EM_NONE
#endif

/* As many as the kernel follows. */
#define SCRIPTS_MAX 5
/* As much of a script's first line as the kernel reads. */
#define HEAD_BYTES 256
#define SEGMENTS_MAX 512u
#define LOADER_OF_MUSL "ld-musl-"

/* ---- Where it is ------------------------------------------------------------------------------- */

/* 0 or errno. */
static int is_executable(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return EACCES;
    return access(path, X_OK) == 0 ? 0 : errno;
}

/* 0 or errno. */
static int find(const char *name, char path[PATH_MAX])
{
    const char *folders = getenv("PATH");
    char standard[256];
    int error = ENOENT;

    if (name[0] == '\0')
        return ENOENT;
    if (strchr(name, '/') != NULL)
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX ? is_executable(path) : ENAMETOOLONG;
    if (folders == NULL)
        folders = confstr(_CS_PATH, standard, sizeof standard) > 0 ? standard : "";
    for (;;) {
        size_t bytes = strcspn(folders, ":");
        const char *between = bytes > 0 ? "/" : ""; /* an empty one is the current folder */

        if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)bytes, folders, between, name) < PATH_MAX) {
            int tried = is_executable(path);

            if (tried == 0)
                return 0;
            if (tried == EACCES)
                error = EACCES; /* told unless there is another one */
        }
        if (folders[bytes] == '\0')
            return error;
        folders += bytes + 1;
    }
}

static int fail_to_find(const char *what, const char *name, int error)
{
    return run_fail(error == ENOENT || error == ENOTDIR ? EXIT_NOT_THERE : EXIT_UNFIT, "%s%s: %s", what, name,
                    strerror(error));
}

/* ---- What it is -------------------------------------------------------------------------------- */

/* What is read of it, as bytes from its start. */
struct image {
    const char *name; /* to be told */
    int fd;
    Elf64_Ehdr head;
    char loader[PATH_MAX]; /* "": it names none */
    bool has_executable_stack;
};

static bool image_read(const struct image *image, void *to, size_t bytes, uint64_t offset)
{
    return offset <= INT64_MAX && pread(image->fd, to, bytes, (off_t)offset) == (ssize_t)bytes;
}

/* False: it is cut short, or makes no sense, which the kernel says better. */
static bool image_read_segments(struct image *image)
{
    if (image->head.e_phentsize != sizeof(Elf64_Phdr) || image->head.e_phnum > SEGMENTS_MAX)
        return false;
    for (unsigned i = 0; i < image->head.e_phnum; i++) {
        Elf64_Phdr segment;

        if (!image_read(image, &segment, sizeof segment, image->head.e_phoff + i * sizeof segment))
            return false;
        if (segment.p_type == PT_GNU_STACK)
            image->has_executable_stack = (segment.p_flags & PF_X) != 0;
        if (segment.p_type != PT_INTERP)
            continue;
        if (segment.p_filesz == 0 || segment.p_filesz >= sizeof image->loader ||
            !image_read(image, image->loader, segment.p_filesz, segment.p_offset))
            return false;
        image->loader[segment.p_filesz] = '\0';
    }
    return true;
}

/* With no_new_privs it would run without them; without, the loader would take no library from us. */
static int check_privileges(const struct image *image)
{
    const char *what = NULL;
    struct stat status;

    if (fstat(image->fd, &status) != 0)
        return 0;
    if ((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid())
        what = "setuid";
    else if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status.st_gid != getegid())
        what = "setgid";
    else if (geteuid() != 0 && fgetxattr(image->fd, "security.capability", NULL, 0) > 0)
        what = "has file capabilities";
    if (what == NULL)
        return 0;
    return run_fail(
        EXIT_UNFIT,
        "%s %s%s: it would get no privileges here, or no library; run it as the user that it needs",
        image->name, strncmp(what, "has", 3) == 0 ? "" : "is ", what);
}

static int check_elf(struct image *image, bool is_locked)
{
    const char *base;

    if (image->head.e_ident[EI_CLASS] != ELFCLASS64)
        return run_fail(EXIT_UNFIT, "%s is a 32-bit program: only 64-bit ones can be served", image->name);
    if (image->head.e_machine != OUR_MACHINE)
        return run_fail(EXIT_UNFIT, "%s is for another processor (ELF machine %u)", image->name,
                        (unsigned)image->head.e_machine);
    if (!image_read_segments(image))
        return 0;
    if (image->loader[0] == '\0')
        return run_fail(
            EXIT_UNFIT,
            "%s is linked statically, so no library can be preloaded: use one that is linked dynamically, or "
            "link it with libjitclient",
            image->name);
    base = strrchr(image->loader, '/');
    if (strncmp(base == NULL ? image->loader : base + 1, LOADER_OF_MUSL, strlen(LOADER_OF_MUSL)) == 0)
        return run_fail(EXIT_UNFIT,
                        "%s uses the C library musl, and the preloaded library is for glibc: use one built "
                        "for glibc",
                        image->name);
    if (is_locked && image->has_executable_stack)
        return run_fail(
            EXIT_UNFIT,
            "%s wants its stack executable, which nobody could take back: link it with -z noexecstack, or "
            "see --profile none",
            image->name);
    return check_privileges(image);
}

/* The interpreter that a script's first line names. False: it names none. */
static bool interpreter_of(const char *head, size_t bytes, char path[HEAD_BYTES])
{
    size_t start = 2;
    size_t end;

    if (bytes < 2 || head[0] != '#' || head[1] != '!')
        return false;
    while (start < bytes && (head[start] == ' ' || head[start] == '\t'))
        start++;
    for (end = start; end < bytes && strchr(" \t\n", head[end]) == NULL; end++)
        continue;
    (void)snprintf(path, HEAD_BYTES, "%.*s", (int)(end - start), head + start);
    return end > start;
}

/* Looks into the file at `path`. EXIT_SUCCESS with an empty `next`: nothing speaks against it. */
static int look_into(const char *path, bool is_locked, char next[HEAD_BYTES])
{
    struct image image = {.name = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    char head[HEAD_BYTES];
    ssize_t bytes;
    int status = 0;

    next[0] = '\0';
    if (image.fd < 0)
        return 0;
    bytes = pread(image.fd, head, sizeof head, 0);
    if (bytes >= (ssize_t)sizeof image.head && memcmp(head, ELFMAG, SELFMAG) == 0) {
        memcpy(&image.head, head, sizeof image.head);
        status = check_elf(&image, is_locked);
    } else if (bytes > 0) {
        (void)interpreter_of(head, (size_t)bytes, next);
    }
    (void)close(image.fd);
    return status;
}

int run_program_check(const char *name, bool is_locked)
{
    char path[PATH_MAX];
    char next[HEAD_BYTES];
    int error = find(name, path);

    if (error != 0)
        return fail_to_find("", name, error);
    for (int scripts = 0; scripts <= SCRIPTS_MAX; scripts++) {
        int status = look_into(path, is_locked, next);

        if (status != 0 || next[0] == '\0')
            return status;
        error = is_executable(next);
        if (error != 0)
            return fail_to_find("the interpreter of a script, ", next, error);
        memcpy(path, next, sizeof next);
    }
    return fail_to_find("", name, ELOOP);
}
