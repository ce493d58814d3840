/* SPDX-License-Identifier: MIT */
/*
 * What a process can still do after jitc_lockdown(): each escape is tried for real, once
 * before (it should work: otherwise the refusal proves nothing, and that is printed) and
 * once after.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jitclient.h"
#include "lockdown.h"
#include "tests/harness/attack.h"
#include "tests/harness/suite.h"
#include "tests/integration/escapes.h"
#include "tests/integration/subject.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

START_TEST(escape_is_refused)
{
    const struct escape *escape = &escapes[_i / USER_COUNT];
    if (!become_user(_i % USER_COUNT))
        return;
    if (kernel_lacks() & escape->step) {
        printf("skipped %s: this kernel lacks what stops it\n", escape->name);
        return;
    }
    int before = in_child(escape->attack);
    if (before != 0)
        printf("%s as uid %d: doesn't work before the lockdown either: %s\n", escape->name, (int)geteuid(),
               before < 0 ? strsignal(-before) : strerror(before));
    lock_down(0);
    tries(escape->row);
    int after = escape->refusal < 0 ? in_child(escape->attack) : escape->attack();
    if (after < 0)
        attack_met_signal(-after);
    else if (after > 0)
        attack_met_errno(after);
    ck_assert_msg(after == escape->refusal, "%s gave %d (%s), not %d", escape->name, after,
                  after > 0 ? strerror(after) : "", escape->refusal);
    /* Its children are no better off. */
    ck_assert_int_eq(in_child(escape->attack), escape->refusal);
}
END_TEST

START_TEST(memfd_from_before_maps_no_more_executable)
{
    if (!become_user(_i))
        return;
    int fd = memfd_create("before", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)page), 0);
    void *writable = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(writable, MAP_FAILED);
    lock_down(0);
    tries("lockdown-memfd");
    ck_assert_ptr_eq(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), MAP_FAILED);
    ck_assert_int_eq(errno, EPERM);
    attack_met_errno(EPERM);
    ck_assert_int_eq(mprotect(writable, page, PROT_READ | PROT_EXEC), -1);
    ck_assert_int_eq(errno, EPERM);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ck_assert_int_eq(spawn_program(path), EPERM);
}
END_TEST

START_TEST(userfaultfd_from_before_fills_no_executable_page)
{
    if (!become_user(_i))
        return;
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd < 0) {
        printf("skipped: no userfaultfd: %s\n", strerror(errno));
        return;
    }
    struct uffdio_api api = {.api = UFFD_API};
    ck_assert_int_eq(ioctl(fd, UFFDIO_API, &api), 0);
    unsigned char *code = mmap(NULL, 2 * page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(code, MAP_FAILED);
    struct uffdio_register registration = {.range = {(uintptr_t)code, 2 * page},
                                           .mode = UFFDIO_REGISTER_MODE_MISSING};
    ck_assert_int_eq(ioctl(fd, UFFDIO_REGISTER, &registration), 0);
    unsigned char *source = written_page();
    struct uffdio_copy copy = {.dst = (uintptr_t)code, .src = (uintptr_t)source, .len = page};
    ck_assert_int_eq(ioctl(fd, UFFDIO_COPY, &copy), 0); /* the way in, as long as it is open */
    ck_assert_uint_eq(code[0], 0xc3);

    lock_down(0);
    tries("lockdown-userfaultfd");
    copy.dst += page;
    ck_assert_int_eq(ioctl(fd, UFFDIO_COPY, &copy), -1);
    ck_assert_int_eq(errno, EPERM);
    attack_met_errno(EPERM);
}
END_TEST

START_TEST(proc_directory_opened_before_leads_to_no_writable_file)
{
    if (!become_user(_i))
        return;
    if (kernel_lacks() & JITC_LOCKDOWN_LANDLOCK) {
        printf("skipped: no Landlock\n");
        return;
    }
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(proc, 0);
    lock_down(0);
    ck_assert_int_eq(openat(proc, "self/mem", O_WRONLY), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(openat(proc, "self/comm", O_WRONLY), -1);
    ck_assert_int_eq(errno, EACCES);
}
END_TEST

/* ---- In a thread that was there before ----------------------------------------------- */

struct early_thread {
    pthread_barrier_t barrier; /* passed once before the lockdown, once after */
    int worked;                /* the index of an escape that did not fail as it must, or -1 */
    int outcome;
};

/* Those that the filter stops: Landlock does not reach it on every kernel. */
static void *try_escapes(void *argument)
{
    struct early_thread *self = argument;

    pthread_barrier_wait(&self->barrier);
    pthread_barrier_wait(&self->barrier);
    for (int i = 0; i < escapes_count && self->worked < 0; i++) {
        if (escapes[i].step != JITC_LOCKDOWN_SECCOMP)
            continue;
        self->outcome = escapes[i].refusal < 0 ? in_child(escapes[i].attack) : escapes[i].attack();
        if (self->outcome != escapes[i].refusal)
            self->worked = i;
    }
    return NULL;
}

START_TEST(no_escape_works_in_a_thread_from_before)
{
    if (!become_user(_i))
        return;
    struct early_thread early = {.worked = -1};
    pthread_t thread;
    ck_assert_int_eq(pthread_barrier_init(&early.barrier, NULL, 2), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, try_escapes, &early), 0);
    pthread_barrier_wait(&early.barrier);
    uint32_t missing = jitc_lockdown(0);
    ck_assert_uint_eq(missing & JITC_LOCKDOWN_SECCOMP, 0);
    tries("lockdown-threads");
    pthread_barrier_wait(&early.barrier);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(early.worked < 0, "%s gave %d", escapes[early.worked < 0 ? 0 : early.worked].name,
                  early.outcome);
    attack_met_errno(EPERM);
}
END_TEST

/* ---- A procfs in odd places (root only: mounts) ----------------------------------- */

/* A mount namespace of its own, and in it an empty directory; false where that can't be had. */
static bool enter_mount_namespace(char *directory)
{
    if (geteuid() != 0 || kernel_landlock_abi() < 1 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("skipped: needs root, a mount namespace and Landlock\n");
        return false;
    }
    ck_assert_int_eq(mount("none", "/tmp", "tmpfs", 0, NULL), 0); /* nothing is left behind in the real one */
    ck_assert_ptr_nonnull(mkdtemp(directory));
    return true;
}

START_TEST(procfs_mounted_elsewhere_is_not_writable_either)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    char point[256];
    make_directory_under(directory, "a");
    make_directory_under(directory, "a/odd name");
    make_directory_under(directory, "b");
    snprintf(point, sizeof point, "%s/a/odd name", directory);
    ck_assert_int_eq(mount("proc", point, "proc", 0, NULL), 0);
    ck_assert_int_eq(open_under(point, "self/mem", O_RDWR), 0);
    ck_assert_int_eq(open_under(directory, "old", O_RDWR | O_CREAT), 0);
    lock_down(0);
    ck_assert_int_eq(open_under(point, "self/mem", O_RDWR), EACCES);
    ck_assert_int_eq(open_under("/proc", "self/mem", O_RDWR), EACCES);
    ck_assert_int_eq(open_under(directory, "b/file", O_RDWR | O_CREAT), 0);
    ck_assert_int_eq(open_under(directory, "old", O_RDWR), 0);
    ck_assert_int_eq(open_under("/run", "jitbroker-lockdown", O_RDWR | O_CREAT), 0);
    unlink("/run/jitbroker-lockdown");
    /* The price: what is new in a directory that leads to a procfs can't be written. */
    ck_assert_int_eq(open_under(directory, "new", O_RDWR | O_CREAT), EACCES);
}
END_TEST

START_TEST(root_bound_elsewhere_does_not_open_procfs)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    char point[256];
    make_directory_under(directory, "root");
    snprintf(point, sizeof point, "%s/root", directory);
    ck_assert_int_eq(mount("/", point, NULL, _i == 0 ? MS_BIND : MS_BIND | MS_REC, NULL), 0);
    lock_down(0);
    ck_assert_int_eq(open_under("/proc", "self/mem", O_RDWR), EACCES);
    int refused = open_under(point, "proc/self/mem", O_RDWR);
    ck_assert_msg(refused == EACCES || refused == ENOENT, "opened: %d", refused);
    ck_assert_int_eq(open_under(point, "run/jitbroker-lockdown", O_RDWR | O_CREAT), 0);
    char file[512];
    snprintf(file, sizeof file, "%s/run/jitbroker-lockdown", point);
    unlink(file);
}
END_TEST

START_TEST(nothing_can_be_mounted_afterwards)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    lock_down(0);
    ck_assert_int_eq(mount("proc", directory, "proc", 0, NULL), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

/* ---- The manual page --------------------------------------------------------------------- */

START_TEST(manual_page_lists_exactly_what_is_denied)
{
    char path[4096];
    const char *last_slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof path, "%.*s/../../docs/jitc_lockdown.3",
             last_slash ? (int)(last_slash - __FILE__) : 1, last_slash ? __FILE__ : ".");
    FILE *manual = fopen(path, "re");
    if (!manual) {
        printf("skipped: no %s\n", path);
        return;
    }
    size_t listed = 0;
    bool in_list = false;
    char line[512];
    while (fgets(line, sizeof line, manual)) {
        if (strncmp(line, ".Ss ", 4) == 0 || strncmp(line, ".Sh ", 4) == 0)
            in_list = strncmp(line, ".Ss What the filter denies", 26) == 0;
        char name[64];
        if (!in_list || sscanf(line, ".It Xr %63s 2", name) != 1)
            continue;
        const char *denied = lockdown_denied_name(listed++);
        ck_assert_msg(denied && strcmp(denied, name) == 0, "entry %zu is %s, the filter's is %s", listed,
                      name, denied ? denied : "none");
    }
    fclose(manual);
    ck_assert_ptr_null(lockdown_denied_name(listed));
}
END_TEST

int main(void)
{
    if (has_thread_out_of_reach())
        return EXIT_SKIPPED;
    Suite *suite = suite_create("lockdown");
    TCase *tcase = tcase_create("escapes");
    tcase_add_loop_test(tcase, escape_is_refused, 0, escapes_count * USER_COUNT);
    tcase_add_loop_test(tcase, no_escape_works_in_a_thread_from_before, 0, USER_COUNT);
    tcase_add_loop_test(tcase, memfd_from_before_maps_no_more_executable, 0, USER_COUNT);
    tcase_add_loop_test(tcase, userfaultfd_from_before_fills_no_executable_page, 0, USER_COUNT);
    tcase_add_loop_test(tcase, proc_directory_opened_before_leads_to_no_writable_file, 0, USER_COUNT);
    tcase_add_test(tcase, procfs_mounted_elsewhere_is_not_writable_either);
    tcase_add_loop_test(tcase, root_bound_elsewhere_does_not_open_procfs, 0, 2);
    tcase_add_test(tcase, nothing_can_be_mounted_afterwards);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("manual");
    tcase_add_test(tcase, manual_page_lists_exactly_what_is_denied);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
