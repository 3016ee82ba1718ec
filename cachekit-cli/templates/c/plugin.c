// The contract: each function checks what it was given, calls the store, and hands the answer over without copying it.
//
// A value leaves as a CkBuf whose owner is the entry that holds it. So a get copies nothing, and the bytes stay valid after
// their key was deleted, and even after the instance was destroyed. Every function may be called from any thread.
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "options.h"
#include "store.h"

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

// When a life that begins now ends. One that is longer than the clock is for ever, and so is CK_TTL_NEVER.
static uint64_t end_of(uint64_t ttl_ms)
{
    uint64_t now = now_ns();
    return ttl_ms >= (NEVER_NS - now) / 1000000 ? NEVER_NS : now + ttl_ms * 1000000;
}

static void release_entry(void *owner, const uint8_t *ptr, size_t len)
{
    (void)ptr;
    (void)len;
    entry_release(owner);
}

// ---- backend/1

static int32_t limits(void *inst, CkLimits *out)
{
    (void)inst;
    CkLimits limits;
    memset(&limits, 0, sizeof limits);
    limits.struct_size = sizeof limits;
    limits.max_key = MAX_KEY;
    limits.key_bytes = CK_KEYS_ANY;
    limits.enumerates = CK_ENUM_NO;
    limits.max_value = MAX_VALUE;
    limits.ttl_step_ms = 1;
    limits.ttl_max_ms = CK_TTL_NEVER;
    // A host that knows a smaller record gets the part that it knows.
    size_t room = out->struct_size;
    memcpy(out, &limits, room < sizeof limits ? room : sizeof limits);
    return CK_OK;
}

static int32_t get(void *inst, CkSlice key, const CkCallOpt *opt, CkBuf *out, CkError *err)
{
    (void)opt;
    (void)err;
    Entry *entry = store_get(inst, key, now_ns());
    if (entry == NULL)
        return CK_NO;
    CkSlice val = entry_value(entry);
    *out = ck_buf_static(val.ptr, val.len);
    out->owner = entry;
    out->release = release_entry;
    return CK_OK;
}

static int32_t set(void *inst, CkSlice key, CkSlice val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    if (key.len == 0 || key.len > MAX_KEY || val.len > MAX_VALUE)
        return ck_fail(err, CK_E_TOO_LARGE, "a key has 1 to 1024 bytes, a value at most 1 MiB");
    if (!store_set(inst, key, val, end_of(ttl_ms)))
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");
    return CK_OK;
}

// The store copies, so the host's buffer is left where it is, and the host releases it.
static int32_t set_owned(void *inst, CkSlice key, CkBuf *val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err)
{
    return set(inst, key, ck_slice(val->ptr, val->len), ttl_ms, opt, err);
}

static int32_t delete_key(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    return store_delete(inst, key, now_ns()) ? CK_OK : CK_NO;
}

static int32_t exists(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    Entry *entry = store_get(inst, key, now_ns());
    if (entry == NULL)
        return CK_NO;
    entry_release(entry);
    return CK_OK;
}

static int32_t health(void *inst, const CkCallOpt *opt, CkBuf *out, CkError *err)
{
    enum { ROOM = 256 };
    (void)opt;
    char *text = malloc(ROOM);
    if (text == NULL)
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");
    uint64_t begun = now_ns(), count = store_count(inst), took = now_ns() - begun;
    // No %f: the host's locale may write a comma.
    int len = snprintf(text, ROOM,
                       "{\"healthy\":true,\"latency_ms\":%" PRIu64 ".%06" PRIu64
                       ",\"backend_type\":\"__ID__\",\"details\":{\"entries\":%" PRIu64 "}}",
                       took / 1000000, took % 1000000, count);
    if (len < 0 || len >= ROOM) {
        free(text);
        return ck_fail(err, CK_E_INTERNAL, "the health report does not fit");
    }
    *out = ck_buf_malloc(text, (size_t)len);
    return CK_OK;
}

// The store goes with its last instance, in `destroy`; others may still be using it.
static int32_t close_inst(void *inst, const CkCallOpt *opt, CkError *err)
{
    (void)inst;
    (void)opt;
    (void)err;
    return CK_OK;
}

static const CkBackendV1 BACKEND = {
    .struct_size = sizeof BACKEND,
    // Nothing here waits for anything but memory. Without the flag the host calls from threads that may block: leave it out
    // for a client that talks to a server.
    .flags = CK_BACKEND_FAST,
    .limits = limits,
    .get = get,
    .set = set,
    .set_owned = set_owned,
    .delete_key = delete_key,
    .exists = exists,
    .health = health,
    .close = close_inst,
};

// ---- clear/1

static int32_t clear(void *inst, CkSlice prefix, const CkCallOpt *opt, uint64_t *out_removed, CkError *err)
{
    (void)opt;
    (void)err;
    *out_removed = store_clear(inst, prefix);
    return CK_OK;
}

static const CkClearV1 CLEAR = {.struct_size = sizeof CLEAR, .clear = clear};

// ---- config-schema/1

static int32_t schema(CkSlice *out)
{
    *out = ck_str(OPTIONS_SCHEMA);
    return CK_OK;
}

static const CkConfigSchemaV1 SCHEMA = {.struct_size = sizeof SCHEMA, .schema = schema};

// ---- the root

// Returns soon. A client connects on first use: a store that is down is no reason to fail here.
static int32_t create(const CkHostV1 *host, CkSlice config_json, void **out, CkError *err)
{
    Options options;
    int32_t status = options_parse(config_json, &options, err);
    if (status != CK_OK)
        return status;
    CkError reason;
    memset(&reason, 0, sizeof reason);
    Store *store = store_open(options.name, options.max_bytes, &reason);
    if (store == NULL) {
        if (err != NULL)
            *err = reason;
        return reason.code;
    }
    if (host != NULL)
        host->log(host->host, CK_LOG_DEBUG, ck_str("__ID__"), ck_str("opened"), NULL, 0);
    *out = store;
    return CK_OK;
}

static void destroy(void *inst)
{
    if (inst != NULL)
        store_close(inst);
}

static const void *query(void *inst, const uint8_t *id, size_t id_len)
{
    static const struct {
        const char *id;
        const void *table;
    } TABLES[] = {{CK_ID_BACKEND, &BACKEND}, {CK_ID_CLEAR, &CLEAR}, {CK_ID_CONFIG_SCHEMA, &SCHEMA}};
    (void)inst;
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++)
        if (ck_id_is(id, id_len, TABLES[i].id))
            return TABLES[i].table;
    return NULL;
}

static const CkPluginV1 PLUGIN = {
    .magic = CK_MAGIC,
    .abi_major = CK_ABI_MAJOR,
    .abi_minor = CK_ABI_MINOR,
    .struct_size = sizeof PLUGIN,
    .create = create,
    .destroy = destroy,
    .query = query,
};

// What hosts read without running anything of this file.
CK_PLUGIN_NOTE("__ID__", "0.1.0");

CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void);
CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void)
{
    return &PLUGIN;
}
