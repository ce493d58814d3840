/* SPDX-License-Identifier: MIT */
/* Anonymous files: what arenas and rings are made of. */
#ifndef DAEMON_MEMFD_H
#define DAEMON_MEMFD_H

#include <sys/mman.h>

/* In Linux's headers since 6.3. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

/* A new one, which can be sealed and, where the kernel has that (6.3), not be executed as a program; or
 * -errno. */
int memfd_new(const char *name);

#endif
