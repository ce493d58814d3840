/* SPDX-License-Identifier: MIT */
#include "daemon/memfd.h"

#include <errno.h>
#include <sys/stat.h>

const char memfd_no_memory[] = "there is no memory for it";

/* No MFD_HUGETLB: hugetlbfs has no write(2), so that an arena of it could grow by zeros only. */
int memfd_new(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* before 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

uint64_t memfd_inode(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? status.st_ino : 0;
}
