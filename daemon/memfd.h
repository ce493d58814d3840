/* SPDX-License-Identifier: MIT */
/* Anonymous files: what arenas and rings are made of. */
#ifndef DAEMON_MEMFD_H
#define DAEMON_MEMFD_H

#include <stdint.h>
#include <sys/mman.h>

/* In Linux's headers since 6.3. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

/* A new one, which can be sealed and, where the kernel has that (6.3), not be executed as a program; or
 * -errno. */
int memfd_new(const char *name);
/* What tells it from all others of this boot; 0 where that is not to be found out. */
uint64_t memfd_inode(int fd);

/* Why one of an earlier daemon's is not adopted where nothing is wrong with it, but this process is short. */
extern const char memfd_no_memory[];

#endif
