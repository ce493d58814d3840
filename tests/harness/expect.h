/* SPDX-License-Identifier: MIT */
/* What a call of libjitclient must return, and what its sentence must say. */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include <check.h>
#include <string.h>

#include "client/jitclient.h"
#include "tests/harness/attack.h"

#define assert_status(status, part, call)                                                  \
    do {                                                                                   \
        int status_ = (call);                                                              \
        ck_assert_msg(status_ == (status), "%s: %s: %s", #call, jitc_strerror(status_),    \
                      jitc_error_detail());                                                \
        if (status_ != JITC_OK) {                                                          \
            ck_assert_msg(strstr(jitc_error_detail(), part) != NULL, "%s says: %s", #call, \
                          jitc_error_detail());                                            \
            attack_met_status(status_);                                                    \
        }                                                                                  \
    } while (0)

#endif
