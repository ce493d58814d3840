/* SPDX-License-Identifier: MIT */
#include "daemon/explain.h"

#include <string.h>

#include "daemon/config.h"

static void print_peer(FILE *out, const struct peer *peer)
{
    (void)fprintf(out, "uid %u", (unsigned)peer->uid);
    if (peer->gid != (gid_t)-1)
        (void)fprintf(out, ", gid %u", (unsigned)peer->gid);
    if (peer->unit[0] != '\0')
        (void)fprintf(out, ", unit %s", peer->unit);
    if (peer->label[0] != '\0')
        (void)fprintf(out, ", label %s", peer->label);
    (void)fputs(":\n", out);
}

static void print_place(FILE *out, const struct policy *policy, unsigned file, int line)
{
    if (line == 0)
        (void)fputs("default\n", out);
    else
        (void)fprintf(out, "%s:%d\n", policy->files[file], line);
}

static void print_mismatch(FILE *out, const struct policy *policy, const struct class *class, const char *key)
{
    for (size_t i = 0; config_class_key(i) != NULL; i++) {
        const struct setting *setting = &class->settings[i];

        if (strcmp(config_class_key(i), key) != 0)
            continue;
        (void)fprintf(out, "not in [class %s]: %s=%s  ", class->name, key, setting->value);
        print_place(out, policy, setting->file, setting->line);
    }
}

static void print_class(FILE *out, const struct policy *policy, const struct class *class)
{
    (void)fprintf(out, "in [class %s]  ", class->name);
    print_place(out, policy, class->file, class->line);
    for (size_t i = 0; config_class_key(i) != NULL; i++) {
        const struct setting *setting = &class->settings[i];

        (void)fprintf(out, "  %s=%s  ", config_class_key(i),
                      setting->value != NULL ? setting->value : config_class_default(i));
        print_place(out, policy, setting->file, setting->value != NULL ? setting->line : 0);
    }
}

bool explain(FILE *out, const struct policy *policy, const struct peer *peer)
{
    print_peer(out, peer);
    for (size_t i = 0; i < policy->classes_count; i++) {
        const struct class *class = policy->classes[i];
        const char *mismatch = class_mismatch(class, peer);

        if (mismatch != NULL) {
            print_mismatch(out, policy, class, mismatch);
            continue;
        }
        print_class(out, policy, class);
        if (!class->write_through)
            (void)fputs("refused: write=none\n", out);
        return class->write_through;
    }
    (void)fputs("refused: in no class\n", out);
    return false;
}
