// The contract: each function checks what it was given, calls the store, and hands the answer over without copying it.
//
// A value leaves as a CkBuf whose owner is the entry that holds it, with one more reference. So a get copies nothing, and
// the bytes stay valid after their key was deleted, and even after the instance was destroyed.
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "store.h"

static void release_entry(void *owner, const uint8_t *ptr, size_t len)
{
    (void)ptr;
    (void)len;
    entry_release(owner);
}

// Gives `bytes` of an entry away together with the caller's reference to it.
static CkBuf give(Entry *entry, CkSlice bytes)
{
    CkBuf buf = ck_buf_static(bytes.ptr, bytes.len);
    buf.owner = entry;
    buf.release = release_entry;
    return buf;
}

// ---- backend/1

static int32_t limits(void *inst, CkLimits *out)
{
    CkLimits limits;
    memset(&limits, 0, sizeof limits);
    limits.struct_size = sizeof limits;
    limits.max_key = MAX_KEY;
    limits.key_bytes = CK_KEYS_ANY;
    limits.enumerates = CK_ENUM_KEYS;
    limits.max_value = store_max_value(inst);
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
    Entry *entry = store_get(inst, key);
    if (entry == NULL)
        return CK_NO;
    *out = give(entry, entry->val);
    return CK_OK;
}

static int32_t set(void *inst, CkSlice key, CkSlice val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    return store_set(inst, key, val, NULL, ttl_ms, false, NULL, err);
}

static int32_t set_owned(void *inst, CkSlice key, CkBuf *val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    return store_set(inst, key, ck_slice(NULL, 0), val, ttl_ms, false, NULL, err);
}

static int32_t delete_key(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    return store_delete(inst, key);
}

static int32_t exists(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    uint64_t left_ms;
    return store_ttl(inst, key, &left_ms);
}

static int32_t health(void *inst, const CkCallOpt *opt, CkBuf *out, CkError *err)
{
    enum { ROOM = 512 };
    (void)opt;
    char *text = malloc(ROOM);
    if (text == NULL)
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    Stats stats = store_stats(inst);
    clock_gettime(CLOCK_MONOTONIC, &after);
    uint64_t ns = (uint64_t)(after.tv_sec - before.tv_sec) * UINT64_C(1000000000) + (uint64_t)after.tv_nsec -
                  (uint64_t)before.tv_nsec;
    // No %f: the host's locale may write a comma.
    int len = snprintf(text, ROOM,
                       "{\"healthy\":true,\"latency_ms\":%" PRIu64 ".%06" PRIu64 ",\"backend_type\":\"c-memory\","
                       "\"details\":{\"entries\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"max_bytes\":%" PRIu64
                       ",\"evicted\":%" PRIu64 ",\"expired\":%" PRIu64 "}}",
                       ns / 1000000, ns % 1000000, stats.entries, stats.bytes, stats.max_bytes, stats.evicted,
                       stats.expired);
    if (len < 0 || len >= ROOM) {
        free(text);
        return ck_fail(err, CK_E_INTERNAL, "the health report does not fit");
    }
    *out = ck_buf_malloc(text, (size_t)len);
    return CK_OK;
}

static int32_t close_inst(void *inst, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    store_clear(inst, ck_slice(NULL, 0));
    return CK_OK;
}

static const CkBackendV1 BACKEND = {
    .struct_size = sizeof BACKEND,
    .flags = CK_BACKEND_FAST, // the mutex is held for short walks through memory only
    .limits = limits,
    .get = get,
    .set = set,
    .set_owned = set_owned,
    .delete_key = delete_key,
    .exists = exists,
    .health = health,
    .close = close_inst,
};

// ---- batch/1: the mutex is taken per key, so that a large batch holds nobody up.

static int32_t get_many(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err)
{
    (void)err;
    for (size_t i = 0; i < len; i++)
        items[i].status = get(inst, items[i].key, opt, &items[i].val, &items[i].err);
    return CK_OK;
}

static int32_t set_many(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err)
{
    (void)err;
    for (size_t i = 0; i < len; i++)
        items[i].status = set_owned(inst, items[i].key, &items[i].val, items[i].ttl_ms, opt, &items[i].err);
    return CK_OK;
}

static int32_t delete_many(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err)
{
    (void)err;
    for (size_t i = 0; i < len; i++)
        items[i].status = delete_key(inst, items[i].key, opt, &items[i].err);
    return CK_OK;
}

static const CkBatchV1 BATCH = {
    .struct_size = sizeof BATCH, .get_many = get_many, .set_many = set_many, .delete_many = delete_many};

// ---- ttl/1

static int32_t ttl(void *inst, CkSlice key, const CkCallOpt *opt, uint64_t *out_ms, CkError *err)
{
    (void)opt;
    (void)err;
    return store_ttl(inst, key, out_ms);
}

static int32_t touch(void *inst, CkSlice key, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    return store_touch(inst, key, ttl_ms, err);
}

static const CkTtlV1 TTL = {.struct_size = sizeof TTL, .ttl = ttl, .touch = touch};

// ---- lock/1

static int32_t lock(void *inst, CkSlice key, CkSlice token, uint64_t hold_ms, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    return store_lock(inst, key, token, hold_ms, err);
}

static int32_t unlock(void *inst, CkSlice key, CkSlice token, const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    (void)err;
    return store_unlock(inst, key, token);
}

static const CkLockV1 LOCK = {.struct_size = sizeof LOCK, .lock = lock, .unlock = unlock};

// ---- cas/1

static int32_t get_version(void *inst, CkSlice key, const CkCallOpt *opt, CkBuf *out, CkVersion *version, CkError *err)
{
    (void)opt;
    (void)err;
    Entry *entry = store_get(inst, key);
    if (entry == NULL)
        return CK_NO;
    *version = store_version(inst, entry);
    *out = give(entry, entry->val);
    return CK_OK;
}

static int32_t set_if(void *inst, CkSlice key, CkSlice val, uint64_t ttl_ms, const CkVersion *expect,
                      const CkCallOpt *opt, CkError *err)
{
    (void)opt;
    return store_set(inst, key, val, NULL, ttl_ms, true, expect, err);
}

static const CkCasV1 CAS = {.struct_size = sizeof CAS, .get_version = get_version, .set_if = set_if};

// ---- scan/1: a cursor is a place in the order of (hash, key): eight bytes of hash, then the last key, if any. It stays
// right while the table grows and entries come and go, even the one it names.

enum { PAGE = 256 };

static int32_t scan_next(void *inst, CkSlice prefix, CkSlice cursor, CkItem *items, size_t max, const CkCallOpt *opt,
                         size_t *out_len, CkBuf *out_cursor, CkError *err)
{
    (void)opt;
    uint64_t hash = 0;
    CkSlice after = {NULL, 0};
    *out_len = 0;
    if (cursor.len != 0) {
        if (cursor.len < sizeof hash)
            return ck_fail(err, CK_E_INTERNAL, "the cursor is none of this store");
        memcpy(&hash, cursor.ptr, sizeof hash);
        after = ck_slice(cursor.ptr + sizeof hash, cursor.len - sizeof hash);
    }
    if (max == 0)
        return ck_fail(err, CK_E_INTERNAL, "a page without room");

    Entry *found[PAGE], *last;
    size_t len;
    bool more = store_scan(inst, prefix, &hash, after, found, max < PAGE ? max : PAGE, &len, &last);
    uint8_t *next = NULL;
    size_t next_len = sizeof hash + (last != NULL ? last->key.len : 0);
    if (more && (next = malloc(next_len)) != NULL) {
        memcpy(next, &hash, sizeof hash);
        if (last != NULL)
            memcpy(next + sizeof hash, last->key.ptr, last->key.len);
    }
    if (last != NULL)
        entry_release(last);
    if (more && next == NULL) {
        for (size_t i = 0; i < len; i++)
            entry_release(found[i]);
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");
    }
    for (size_t i = 0; i < len; i++)
        items[i].val = give(found[i], found[i]->key);
    *out_len = len;
    *out_cursor = more ? ck_buf_malloc(next, next_len) : ck_buf_empty();
    return CK_OK;
}

static const CkScanV1 SCAN = {.struct_size = sizeof SCAN, .next = scan_next, .read = get};

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
    *out = ck_str(CONFIG_SCHEMA);
    return CK_OK;
}

static const CkConfigSchemaV1 SCHEMA = {.struct_size = sizeof SCHEMA, .schema = schema};

// ---- the root

static int32_t create(const CkHostV1 *host, CkSlice config_json, void **out, CkError *err)
{
    (void)host; // nothing to log, no secrets to resolve
    Config config;
    int32_t status = config_parse(config_json, &config, err);
    if (status != CK_OK)
        return status;
    Store *store = store_new(&config);
    if (store == NULL)
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");
    *out = store;
    return CK_OK;
}

static void destroy(void *inst)
{
    if (inst != NULL)
        store_free(inst);
}

// Every instance can do the same, so `inst` is not looked at and may be NULL.
static const void *query(void *inst, const uint8_t *id, size_t id_len)
{
    static const struct {
        const char *id;
        const void *table;
    } TABLES[] = {
        {CK_ID_BACKEND, &BACKEND}, {CK_ID_BATCH, &BATCH}, {CK_ID_TTL, &TTL},
        {CK_ID_LOCK, &LOCK},       {CK_ID_CAS, &CAS},     {CK_ID_SCAN, &SCAN},
        {CK_ID_CLEAR, &CLEAR},     {CK_ID_CONFIG_SCHEMA, &SCHEMA},
    };
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

CK_PLUGIN_NOTE("example.c-memory", "1.0.0");

CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void);
CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void)
{
    return &PLUGIN;
}
