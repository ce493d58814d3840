/* SPDX-License-Identifier: MIT */
/*
 * JSON on standard output, value by value; commas come by themselves. The key is NULL in an array. What a
 * client may have named is escaped byte by byte, so that it is JSON whatever it is.
 */
#ifndef PROTO_JSON_H
#define PROTO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* '{' or '['. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
/* Behind the outermost bracket: the end of the line. */
void json_end(void);

void json_text(const char *key, const char *value);
void json_number(const char *key, uint64_t value);
void json_real(const char *key, double value);
void json_bool(const char *key, bool value);
/* A number, true, false or null, that is written already. */
void json_literal(const char *key, const char *literal);
/* As hexadecimal digits. */
void json_bytes(const char *key, const uint8_t *bytes, size_t count);

/* A string by itself. */
void json_print_string(const char *text);

#endif
