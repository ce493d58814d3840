/* SPDX-License-Identifier: MIT */
/* What the command line asks for, and the exit statuses that all verbs share. */
#ifndef TOOLS_INVOCATION_H
#define TOOLS_INVOCATION_H

#include <stdbool.h>
#include <stdint.h>

#define EXIT_YES 0       /* done */
#define EXIT_NO 1        /* it failed, or there is no such session */
#define EXIT_USAGE 2     /* the command line is wrong */
#define EXIT_NO_ANSWER 3 /* the admin socket can't be reached, or does not answer this caller */

#define ARGUMENTS_MAX 2
#define PEER_OPTIONS_MAX 8

struct invocation {
    const char *socket; /* clients'; NULL: where the library looks */
    const char *admin;  /* operators' */
    bool json;
    bool svg;
    bool once;
    bool yes;
    const char *output; /* NULL: standard output */
    uint32_t interval_ms;
    const char *arguments[ARGUMENTS_MAX]; /* behind the verb */
    int arguments_count;
    uint64_t session; /* of the arguments, where the verb takes one */
    uint64_t offset;
    bool has_offset;
    char *peer[PEER_OPTIONS_MAX]; /* "--uid=33" and so on, for the daemon's --explain */
    int peer_count;
};

/* The verbs: each prints what it has to say, and returns the exit status. */
int verb_status(const struct invocation *invocation);
int verb_sessions(const struct invocation *invocation);
int verb_spans(const struct invocation *invocation);
int verb_map(const struct invocation *invocation);
int verb_disasm(const struct invocation *invocation);
int verb_dump(const struct invocation *invocation);
int verb_top(const struct invocation *invocation);
int verb_metrics(const struct invocation *invocation);
int verb_revoke(const struct invocation *invocation);
int verb_upgrade(const struct invocation *invocation);
int verb_reload(const struct invocation *invocation);
int verb_log_level(const struct invocation *invocation);
int verb_doctor(const struct invocation *invocation);
int verb_policy(const struct invocation *invocation);

#endif
