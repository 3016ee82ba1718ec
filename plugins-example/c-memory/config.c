// A parser for exactly what the options are: one flat object of whole numbers. Everything else is refused, with the name
// of the field, because an option that is silently ignored is a surprise kept for later.
#include "config.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

const char CONFIG_SCHEMA[] =
    "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"c-memory\",\"type\":\"object\","
    "\"additionalProperties\":false,\"properties\":{"
    "\"max_bytes\":{\"type\":\"integer\",\"minimum\":131072,\"maximum\":1099511627776,\"default\":67108864,"
    "\"description\":\"Memory for keys, values and their records, bytes. The oldest entries make room.\"},"
    "\"max_entries\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1073741824,\"default\":1048576,"
    "\"description\":\"Most entries kept.\"}}}";

// As in the schema.
typedef struct {
    const char *name;
    size_t offset;
    uint64_t least, most;
} Field;

static const Field FIELDS[] = {
    {"max_bytes", offsetof(Config, max_bytes), 131072, UINT64_C(1) << 40},
    {"max_entries", offsetof(Config, max_entries), 1, UINT64_C(1) << 30},
};
enum { FIELD_COUNT = sizeof FIELDS / sizeof FIELDS[0] };

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

// A name between quotes. Names of ours need no escapes, so an escape makes a name unknown; it is kept as it stands.
static bool take_name(Reader *in, CkSlice *name)
{
    if (!take(in, '"'))
        return false;
    const uint8_t *start = in->at;
    while (in->at < in->end && *in->at != '"') {
        if (*in->at < 0x20)
            return false;
        in->at += *in->at == '\\' && in->end - in->at > 1 ? 2 : 1;
    }
    *name = ck_slice(start, (size_t)(in->at - start));
    return take(in, '"');
}

// A whole number without sign, fraction, exponent or leading zeros, of at most `most`.
static bool take_number(Reader *in, uint64_t most, uint64_t *number)
{
    skip_space(in);
    const uint8_t *start = in->at;
    uint64_t sum = 0;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        uint64_t digit = (uint64_t)(*in->at++ - '0');
        if (digit > most || sum > (most - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *number = sum;
    return in->at > start && (*start != '0' || in->at == start + 1);
}

// An error that names a field. What the name holds is not ours: it is cut, and what is not printable becomes `?`.
static int32_t fail_field(CkError *err, CkSlice name, const char *reason)
{
    enum { SHOWN = 64, ROOM = 256 };
    char shown[SHOWN + 1];
    size_t len = name.len < SHOWN ? name.len : SHOWN;
    for (size_t i = 0; i < len; i++)
        shown[i] = name.ptr[i] >= 0x20 && name.ptr[i] < 0x7f ? (char)name.ptr[i] : '?';
    shown[len] = 0;

    ck_fail(err, CK_E_CONFIG, "an option cannot work");
    char *text = malloc(ROOM);
    if (text == NULL || err == NULL) {
        free(text);
        return CK_E_CONFIG;
    }
    int written = snprintf(text, ROOM, "option `%s`: %s", shown, reason);
    err->msg = ck_buf_malloc(text, written > 0 && written < ROOM ? (size_t)written : 0);
    return CK_E_CONFIG;
}

int32_t config_parse(CkSlice json, Config *config, CkError *err)
{
    static const char NO_JSON[] = "the options are no JSON object of whole numbers";
    config->max_bytes = UINT64_C(64) << 20;
    config->max_entries = UINT64_C(1) << 20;
    if (json.len == 0)
        return CK_OK;

    Reader in = {json.ptr, json.ptr + json.len};
    bool seen[FIELD_COUNT] = {false};
    if (!take(&in, '{'))
        return ck_fail(err, CK_E_CONFIG, NO_JSON);
    for (bool more = !take(&in, '}'); more;) {
        CkSlice name;
        if (!take_name(&in, &name) || !take(&in, ':'))
            return ck_fail(err, CK_E_CONFIG, NO_JSON);
        size_t at = 0;
        while (at < FIELD_COUNT && !ck_same(name, ck_str(FIELDS[at].name)))
            at++;
        if (at == FIELD_COUNT)
            return fail_field(err, name, "unknown; there are `max_bytes` and `max_entries`");
        if (seen[at])
            return fail_field(err, name, "given twice");
        seen[at] = true;

        uint64_t number;
        if (!take_number(&in, FIELDS[at].most, &number) || number < FIELDS[at].least) {
            char reason[96];
            snprintf(reason, sizeof reason, "must be a whole number from %" PRIu64 " to %" PRIu64, FIELDS[at].least,
                     FIELDS[at].most);
            return fail_field(err, name, reason);
        }
        memcpy((char *)config + FIELDS[at].offset, &number, sizeof number);
        if (take(&in, '}'))
            more = false;
        else if (!take(&in, ','))
            return fail_field(err, name, "must be a whole number, and then a comma or the end");
    }
    skip_space(&in);
    return in.at == in.end ? CK_OK : ck_fail(err, CK_E_CONFIG, NO_JSON);
}
