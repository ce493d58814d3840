/* SPDX-License-Identifier: MIT */
#include "daemon/policy.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static struct class *class_free(struct class *class)
{
    if (class == NULL)
        return NULL;
    for (size_t i = 0; i < CLASS_KEYS_MAX; i++)
        free(class->settings[i].value);
    free(class);
    return NULL;
}

struct policy *policy_new(void)
{
    struct policy *policy = calloc(1, sizeof *policy);

    if (policy != NULL)
        policy->refs = 1;
    return policy;
}

struct policy *policy_ref(struct policy *policy)
{
    policy->refs++;
    return policy;
}

struct policy *policy_unref(struct policy *policy)
{
    if (policy == NULL || --policy->refs > 0)
        return NULL;
    for (size_t i = 0; i < policy->classes_count; i++)
        (void)class_free(policy->classes[i]);
    free(policy->classes);
    for (size_t i = 0; i < DAEMON_KEYS_MAX; i++)
        free(policy->settings[i].value);
    for (unsigned i = 0; i < policy->files_count; i++)
        free(policy->files[i]);
    free(policy);
    return NULL;
}

struct class *policy_find(const struct policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->classes_count; i++) {
        if (strcmp(name, policy->classes[i]->name) == 0)
            return policy->classes[i];
    }
    return NULL;
}

struct class *policy_add(struct policy *policy, const char *name)
{
    size_t at = policy->classes_count;
    struct class **classes;
    struct class *class;

    if (at == CLASSES_MAX)
        return NULL;
    classes = realloc(policy->classes, (at + 1) * sizeof(struct class *));
    if (classes == NULL)
        return NULL;
    policy->classes = classes;
    class = calloc(1, sizeof *class);
    if (class == NULL)
        return NULL;
    memcpy(class->name, name, strnlen(name, CLASS_NAME_MAX_BYTES));
    if (at > 0 && strcmp(classes[at - 1]->name, "default") == 0) {
        classes[at] = classes[at - 1];
        at--;
    }
    classes[at] = class;
    policy->classes_count++;
    return class;
}

/* ---- Matching --------------------------------------------------------------------------- */

static bool has_id(const struct id_set *set, uint32_t id)
{
    for (size_t i = 0; i < set->count; i++) {
        if (id >= set->ranges[i].first && id <= set->ranges[i].last)
            return true;
    }
    return set->count == 0;
}

static bool has_gid(const struct id_set *set, const struct peer *peer)
{
    if (has_id(set, peer->gid))
        return true;
    for (size_t i = 0; i < peer->groups_count; i++) {
        if (has_id(set, peer->groups[i]))
            return true;
    }
    return false;
}

/* A peer of which it is not known has "", which no pattern matches, not even `*`. */
static bool fits(const char *pattern, const char *text)
{
    return pattern[0] == '\0' || (text[0] != '\0' && fnmatch(pattern, text, 0) == 0);
}

const char *class_mismatch(const struct class *class, const struct peer *peer)
{
    if (!has_id(&class->uids, peer->uid))
        return "uid";
    if (!has_gid(&class->gids, peer))
        return "gid";
    if (!fits(class->unit, peer->unit))
        return "unit";
    if (!fits(class->label, peer->label))
        return "label";
    return NULL;
}

const struct class *policy_match(const struct policy *policy, const struct peer *peer)
{
    for (size_t i = 0; i < policy->classes_count; i++) {
        if (class_mismatch(policy->classes[i], peer) == NULL)
            return policy->classes[i];
    }
    return NULL;
}
