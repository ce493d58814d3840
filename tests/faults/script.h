/* SPDX-License-Identifier: MIT */
/* A session that does a bit of everything, and takes any clear error for an answer. */
#ifndef TESTS_FAULTS_SCRIPT_H
#define TESTS_FAULTS_SCRIPT_H

#include <stdbool.h>

#include "client/jitclient.h"

/* What a call that met a fault may return. */
typedef bool script_accepts(int status);

enum script_end {
    SCRIPT_DONE,
    SCRIPT_FAILED, /* something did, with a status that is accepted and a sentence */
    SCRIPT_WRONG,  /* stderr says what */
};

/*
 * Connects as the options say, or to a private broker, and ends what it began. While `is_over` is not NULL
 * and says that no fault will come any more, a session that is not lost must do all that it is asked for.
 */
enum script_end script_run(const jitc_options *options, bool spawns, script_accepts *accepts,
                           bool (*is_over)(void));

#endif
