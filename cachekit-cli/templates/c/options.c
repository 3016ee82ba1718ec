// A reader for exactly what the options are: one flat object with a text and a number. Everything else is refused, because
// an option that is silently ignored is a surprise kept for later. With more options than these, take a JSON library.
#include "options.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#define LEAST_BYTES UINT64_C(2097152)
#define MOST_BYTES UINT64_C(1099511627776)

const char OPTIONS_SCHEMA[] =
    "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\","
    "\"additionalProperties\":false,\"properties\":{"
    "\"name\":{\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9._-]{1,64}$\",\"default\":\"default\","
    "\"description\":\"Instances of one process that are opened with the same name share one store.\"},"
    "\"max_bytes\":{\"type\":\"integer\",\"minimum\":2097152,\"maximum\":1099511627776,\"default\":67108864,"
    "\"description\":\"Memory for keys, values and their records, bytes. When it is full, the oldest entries make room.\"}}}";

// What is left to read.
typedef struct {
    const uint8_t *at, *end;
} Reader;

static void skip_space(Reader *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r'))
        in->at++;
}

// Skips space and takes `byte` if it comes next.
static bool take(Reader *in, char byte)
{
    skip_space(in);
    if (in->at == in->end || *in->at != (uint8_t)byte)
        return false;
    in->at++;
    return true;
}

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// A text between quotes, of letters, digits and `._-` alone: so it needs no escapes, and may stand in an error.
static bool take_text(Reader *in, CkSlice *text)
{
    if (!take(in, '"'))
        return false;
    const uint8_t *start = in->at;
    while (in->at < in->end && is_plain(*in->at))
        in->at++;
    *text = ck_slice(start, (size_t)(in->at - start));
    return text->len <= MOST_NAME && take(in, '"');
}

// A whole number without sign, fraction, exponent or leading zeros.
static bool take_number(Reader *in, uint64_t *number)
{
    skip_space(in);
    const uint8_t *start = in->at;
    uint64_t sum = 0;
    for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
        if (sum > MOST_BYTES)
            return false;
        sum = sum * 10 + (uint64_t)(*in->at - '0');
    }
    *number = sum;
    return in->at > start && (*start != '0' || in->at == start + 1);
}

static int32_t unknown(CkError *err, CkSlice field)
{
    enum { ROOM = 160 };
    char *text = malloc(ROOM);
    if (text == NULL || err == NULL) {
        free(text);
        return ck_fail(err, CK_E_CONFIG, "an option is unknown; there are `name` and `max_bytes`");
    }
    int len = snprintf(text, ROOM, "option `%.*s` is unknown; there are `name` and `max_bytes`", (int)field.len,
                       (const char *)field.ptr);
    ck_fail(err, CK_E_CONFIG, "");
    err->msg = ck_buf_malloc(text, len > 0 && len < ROOM ? (size_t)len : 0);
    return CK_E_CONFIG;
}

int32_t options_parse(CkSlice json, Options *options, CkError *err)
{
    static const char NO_OBJECT[] = "the options are no JSON object of `name` and `max_bytes`";
    memset(options, 0, sizeof *options);
    memcpy(options->name, "default", sizeof "default");
    options->max_bytes = UINT64_C(64) << 20;
    if (json.len == 0)
        return CK_OK;

    Reader in = {json.ptr, json.ptr + json.len};
    bool seen_name = false, seen_bytes = false;
    if (!take(&in, '{'))
        return ck_fail(err, CK_E_CONFIG, NO_OBJECT);
    for (bool more = !take(&in, '}'); more;) {
        CkSlice field, text;
        if (!take_text(&in, &field) || !take(&in, ':'))
            return ck_fail(err, CK_E_CONFIG, NO_OBJECT);
        if (ck_same(field, ck_str("name")) && !seen_name) {
            if (!take_text(&in, &text) || text.len == 0)
                return ck_fail(err, CK_E_CONFIG, "option `name`: takes a text of 1 to 64 letters, digits and `._-`");
            memcpy(options->name, text.ptr, text.len);
            options->name[text.len] = 0;
            seen_name = true;
        } else if (ck_same(field, ck_str("max_bytes")) && !seen_bytes) {
            if (!take_number(&in, &options->max_bytes) || options->max_bytes < LEAST_BYTES ||
                options->max_bytes > MOST_BYTES)
                return ck_fail(err, CK_E_CONFIG, "option `max_bytes`: takes a whole number from 2097152 to 1099511627776");
            seen_bytes = true;
        } else if (seen_name || seen_bytes) {
            return ck_fail(err, CK_E_CONFIG, "an option is given twice, or unknown; there are `name` and `max_bytes`");
        } else {
            return unknown(err, field);
        }
        if (take(&in, '}'))
            more = false;
        else if (!take(&in, ','))
            return ck_fail(err, CK_E_CONFIG, NO_OBJECT);
    }
    skip_space(&in);
    return in.at == in.end ? CK_OK : ck_fail(err, CK_E_CONFIG, NO_OBJECT);
}
