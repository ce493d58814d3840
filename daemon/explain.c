/* SPDX-License-Identifier: MIT */
#include "daemon/explain.h"

#include <string.h>

#include "daemon/config.h"
#include "proto/json.h"

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

/* ---- JSON ---------------------------------------------------------------------------------- */

static void put_peer(const struct peer *peer)
{
    json_open("peer", '{');
    json_number("uid", peer->uid);
    if (peer->gid != (gid_t)-1)
        json_number("gid", peer->gid);
    if (peer->unit[0] != '\0')
        json_text("unit", peer->unit);
    if (peer->label[0] != '\0')
        json_text("label", peer->label);
    json_close('}');
}

/* "" and 0: no file has it, it is a default. */
static void put_place(const struct policy *policy, unsigned file, int line)
{
    json_text("file", line == 0 ? "" : policy->files[file]);
    json_number("line", (uint64_t)line);
}

static void put_setting(const struct policy *policy, const struct class *class, size_t key)
{
    const struct setting *setting = &class->settings[key];
    bool is_given = setting->value != NULL;

    json_open(NULL, '{');
    json_text("class", class->name);
    json_text("key", config_class_key(key));
    json_text("value", is_given ? setting->value : config_class_default(key));
    put_place(policy, setting->file, is_given ? setting->line : 0);
    json_close('}');
}

/* The peer's class, if it has one, behind why it is in none of those before. */
static const struct class *put_mismatches(const struct policy *policy, const struct peer *peer)
{
    const struct class *found = NULL;

    json_open("mismatches", '[');
    for (size_t i = 0; i < policy->classes_count && found == NULL; i++) {
        const struct class *class = policy->classes[i];
        const char *mismatch = class_mismatch(class, peer);

        if (mismatch == NULL)
            found = class;
        for (size_t key = 0; mismatch != NULL && config_class_key(key) != NULL; key++) {
            if (strcmp(config_class_key(key), mismatch) == 0)
                put_setting(policy, class, key);
        }
    }
    json_close(']');
    return found;
}

bool explain_json(const struct policy *policy, const struct peer *peer)
{
    const struct class *class;
    bool is_served;

    json_open(NULL, '{');
    put_peer(peer);
    class = put_mismatches(policy, peer);
    json_text("class", class != NULL ? class->name : "");
    json_open("settings", '[');
    for (size_t key = 0; class != NULL && config_class_key(key) != NULL; key++)
        put_setting(policy, class, key);
    json_close(']');
    is_served = class != NULL && class->write_through;
    json_bool("served", is_served);
    json_text("refused", is_served ? "" : class == NULL ? "in no class" : "write=none");
    json_close('}');
    json_end();
    return is_served;
}
