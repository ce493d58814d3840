/* SPDX-License-Identifier: MIT */
/*
 * Takes away the right to write under procfs, with Landlock.
 *
 * A write to /proc/PID/mem goes through page protections (FOLL_FORCE): it changes
 * libc's code in place, in a process that has no writable executable page. No system
 * call filter can tell that write from another, so the file must not open.
 *
 * Landlock only grants: the right to write is given beneath everything that leads to
 * no procfs. The walk starts at / and grants each entry whole, save those that are a
 * procfs (skipped) and those that lead to one (replaced by their entries). Invariants:
 *  - No rule is ever put on a procfs, nor on a directory above one. Directories are
 *    compared by inode, not by name: Landlock ties a rule to the inode, and a bind
 *    mount of / shows the inode of / elsewhere.
 *  - /proc is left out even while nothing is mounted there.
 *
 * Not covered: a procfs that somebody else mounts later beneath a granted directory
 * (this process can mount nothing any more), and files that are open already.
 */
#include "client/landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* ABI 2, Linux 5.19 */
#endif
#ifndef LANDLOCK_RESTRICT_SELF_TSYNC
#define LANDLOCK_RESTRICT_SELF_TSYNC (1U << 3) /* ABI 8, Linux 7.0 */
#endif

#define ABI_REFER 2
#define ABI_TSYNC 8

/* A tree of mounts that goes deeper than this on its way to a procfs is left ungranted. */
#define WALK_DEPTH_MAX 32

/* A directory that leads to a procfs: never granted whole. */
struct waypoint {
    dev_t device;
    ino_t inode;
};

struct walk {
    struct waypoint *waypoints;
    size_t waypoint_count;
    int ruleset;
    uint64_t file_rights;
    uint64_t directory_rights;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static void close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

static void close_directory(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}

static void free_string(char **string)
{
    free(*string);
}

static void walk_deinit(struct walk *walk)
{
    free(walk->waypoints);
    if (walk->ruleset >= 0)
        close(walk->ruleset);
}

int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static bool walk_is_waypoint(const struct walk *walk, const struct stat *status)
{
    for (size_t i = 0; i < walk->waypoint_count; i++) {
        if (walk->waypoints[i].device == status->st_dev && walk->waypoints[i].inode == status->st_ino)
            return true;
    }
    return false;
}

static int walk_add_waypoint(struct walk *walk, const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0 || walk_is_waypoint(walk, &status))
        return 0; /* what can't be reached by name leads nowhere */
    size_t bytes;
    if (__builtin_mul_overflow(walk->waypoint_count + 1, sizeof(struct waypoint), &bytes))
        return -ENOMEM;
    struct waypoint *waypoints = realloc(walk->waypoints, bytes);
    if (!waypoints)
        return -ENOMEM;
    waypoints[walk->waypoint_count++] = (struct waypoint){status.st_dev, status.st_ino};
    walk->waypoints = waypoints;
    return 0;
}

/* Every directory above `path`, from / down. Changes and restores `path`. */
static int walk_add_waypoints_above(struct walk *walk, char *path)
{
    int r = walk_add_waypoint(walk, "/");
    for (char *slash = strchr(path + 1, '/'); slash && r == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        r = walk_add_waypoint(walk, path);
        *slash = '/';
    }
    return r;
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* mountinfo writes space, tab, newline and backslash as \ooo. In place. */
static void unescape(char *text)
{
    char *out = text;
    while (*text) {
        if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) && is_octal(text[3])) {
            *out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 4;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* The mount point if this line of mountinfo is about a procfs, else NULL. Changes the line. */
static char *proc_mount_point(char *line)
{
    char *type = strstr(line, " - ");
    if (!type || strncmp(type + 3, "proc ", 5) != 0)
        return NULL;
    char *rest = NULL;
    char *field = strtok_r(line, " ", &rest);
    for (int i = 0; field && i < 4; i++)
        field = strtok_r(NULL, " ", &rest);
    if (!field || field[0] != '/')
        return NULL;
    unescape(field);
    return field;
}

static int walk_find_waypoints(struct walk *walk)
{
    int r = walk_add_waypoint(walk, "/");
    __attribute__((cleanup(close_file))) FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        return r; /* no procfs to be read: what statfs finds in / is left out all the same */
    __attribute__((cleanup(free_string))) char *line = NULL;
    size_t line_bytes = 0;
    while (r == 0 && getline(&line, &line_bytes, mounts) > 0) {
        char *point = proc_mount_point(line);
        if (point)
            r = walk_add_waypoints_above(walk, point);
    }
    return r;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int walk_grant(struct walk *walk, int parent, const char *name, unsigned depth);

static int walk_grant_entries(struct walk *walk, int directory_fd, unsigned depth)
{
    if (depth >= WALK_DEPTH_MAX)
        return 0;
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return depth > 0 ? 0 : -errno; /* what can't be listed stays without the right */
    __attribute__((cleanup(close_directory))) DIR *directory = fdopendir(fd);
    if (!directory) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
        bool is_proc = depth == 0 && strcmp(entry->d_name, "proc") == 0;
        if (!is_dot(entry->d_name) && !is_proc)
            r = walk_grant(walk, fd, entry->d_name, depth + 1);
    }
    return r;
}

/* Gives the right to write to `name` and all beneath it that is no procfs. */
static int walk_grant(struct walk *walk, int parent, const char *name, unsigned depth)
{
    __attribute__((cleanup(close_fd))) int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    struct statfs filesystem;
    if (fd < 0 || fstat(fd, &status) < 0 || fstatfs(fd, &filesystem) < 0)
        return 0; /* gone meanwhile, or out of this user's reach anyway */
    if (S_ISLNK(status.st_mode) || filesystem.f_type == PROC_SUPER_MAGIC)
        return 0;
    bool is_directory = S_ISDIR(status.st_mode);
    if (is_directory && walk_is_waypoint(walk, &status))
        return walk_grant_entries(walk, fd, depth);

    struct landlock_path_beneath_attr rule = {
        .allowed_access = is_directory ? walk->directory_rights : walk->file_rights,
        .parent_fd = fd,
    };
    if (syscall(SYS_landlock_add_rule, walk->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return -errno;
    return 0;
}

/*
 * REFER is denied by every ruleset that doesn't handle it: unless it is granted, no
 * file could be renamed or linked into another directory any more.
 */
static int walk_init(struct walk *walk, int abi)
{
    *walk = (struct walk){
        .ruleset = -1,
        .file_rights = LANDLOCK_ACCESS_FS_WRITE_FILE,
        .directory_rights = LANDLOCK_ACCESS_FS_WRITE_FILE | (abi >= ABI_REFER ? LANDLOCK_ACCESS_FS_REFER : 0),
    };
    struct landlock_ruleset_attr handled = {.handled_access_fs = walk->directory_rights};
    long fd = syscall(SYS_landlock_create_ruleset, &handled, sizeof handled.handled_access_fs, 0);
    if (fd < 0)
        return -errno;
    walk->ruleset = (int)fd;
    return 0;
}

/* Not found out by trying: a process that is not dumpable is refused its own mem as well. */
static _Thread_local bool thread_is_restricted __attribute__((tls_model("initial-exec")));

static bool thread_can_write_itself(void)
{
    __attribute__((cleanup(close_fd))) int fd = open("/proc/thread-self/mem", O_WRONLY | O_CLOEXEC);
    return fd >= 0;
}

int landlock_restrict_proc(bool other_threads, char *why, size_t why_bytes)
{
    int abi = landlock_abi();
    if (abi == 0) {
        snprintf(why, why_bytes,
                 "this kernel has no Landlock, or it is switched off (Linux 5.13, lsm=landlock)");
        return -ENOSYS;
    }
    bool syncs = other_threads && abi >= ABI_TSYNC;
    if (syncs || !thread_is_restricted) {
        __attribute__((cleanup(walk_deinit))) struct walk walk;
        int r = walk_init(&walk, abi);
        if (r == 0)
            r = walk_find_waypoints(&walk);
        __attribute__((cleanup(close_fd))) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (r == 0)
            r = root < 0 ? -errno : walk_grant_entries(&walk, root, 0);
        if (r == 0 &&
            syscall(SYS_landlock_restrict_self, walk.ruleset, syncs ? LANDLOCK_RESTRICT_SELF_TSYNC : 0) < 0)
            r = -errno;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): walk_deinit() frees it, which clang 14 does not see */
        if (r < 0) {
            snprintf(why, why_bytes, r == -EPERM ? "%s: set JITC_LOCKDOWN_NO_NEW_PRIVS as well" : "%s",
                     strerror(-r));
            return r;
        }
        thread_is_restricted = true;
    }
    if (thread_can_write_itself()) {
        snprintf(why, why_bytes, "/proc/self/mem opens for writing all the same");
        return -EINVAL;
    }
    if (other_threads && !syncs) {
        snprintf(why, why_bytes,
                 "restricts the calling thread only, other threads exist and this kernel can't reach them "
                 "(Linux 7.0): lock down before threads are started");
        return -EXDEV;
    }
    return 0;
}
