// What the contract promises, seen from a host. Loads the library named as argument, or, with -DLINKED, is linked to it.
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "cachekit_plugin.h"

#define CHECK(truth)                                                         \
    do {                                                                     \
        if (!(truth)) {                                                      \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #truth); \
            exit(1);                                                         \
        }                                                                    \
    } while (0)

static const CkPluginV1 *plugin;
static const CkBackendV1 *backend;
static const CkBatchV1 *batch;
static const CkTtlV1 *expiry;
static const CkLockV1 *leases;
static const CkCasV1 *cas;
static const CkScanV1 *scan;
static const CkClearV1 *clearing;

static const void *table(const char *id, size_t size)
{
    const void *found = plugin->query(NULL, (const uint8_t *)id, strlen(id));
    CHECK(found != NULL);
    uint32_t struct_size;
    memcpy(&struct_size, found, sizeof struct_size);
    CHECK(struct_size == size);
    return found;
}

static void *open_with(const char *json)
{
    CkError err = {0};
    void *inst = NULL;
    CHECK(plugin->create(NULL, ck_str(json), &inst, &err) == CK_OK);
    CHECK(inst != NULL);
    return inst;
}

static int32_t put(void *inst, const char *key, const char *val, uint64_t ttl_ms)
{
    return backend->set(inst, ck_str(key), ck_str(val), ttl_ms, NULL, NULL);
}

static bool holds(void *inst, const char *key, const char *val)
{
    CkBuf out = {0};
    CkError err = {0};
    int32_t status = backend->get(inst, ck_str(key), NULL, &out, &err);
    CHECK(status == CK_OK || status == CK_NO);
    bool same = status == CK_OK && val != NULL && ck_same(ck_slice(out.ptr, out.len), ck_str(val));
    ck_buf_release(&out);
    return val == NULL ? status == CK_NO : same;
}

static void pause_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void root_is_as_the_header_says(void)
{
    CHECK(plugin->magic == CK_MAGIC && plugin->abi_major == CK_ABI_MAJOR && plugin->abi_minor == CK_ABI_MINOR);
    CHECK(plugin->struct_size == 40 && plugin->struct_size == sizeof *plugin);
    CHECK(plugin->query(NULL, (const uint8_t *)"no.such/1", 9) == NULL);
    CHECK(plugin->query(NULL, (const uint8_t *)CK_ID_BACKEND, strlen(CK_ID_BACKEND) - 1) == NULL);
    CHECK(plugin->query(NULL, NULL, 0) == NULL);
    CHECK(plugin->query(NULL, (const uint8_t *)CK_ID_ASYNC, strlen(CK_ID_ASYNC)) == NULL);
    void *inst = open_with("");
    CHECK(plugin->query(inst, (const uint8_t *)CK_ID_BACKEND, strlen(CK_ID_BACKEND)) == backend);
    plugin->destroy(inst);
    plugin->destroy(NULL);
}

static void values_go_round(void)
{
    void *inst = open_with("{}");
    CHECK(holds(inst, "k", NULL));
    CHECK(backend->delete_key(inst, ck_str("k"), NULL, NULL) == CK_NO);
    CHECK(backend->exists(inst, ck_str("k"), NULL, NULL) == CK_NO);
    CHECK(put(inst, "k", "one", CK_TTL_NEVER) == CK_OK && holds(inst, "k", "one"));
    CHECK(backend->exists(inst, ck_str("k"), NULL, NULL) == CK_OK);
    CHECK(put(inst, "k", "two", CK_TTL_NEVER) == CK_OK && holds(inst, "k", "two"));
    CHECK(put(inst, "empty", "", CK_TTL_NEVER) == CK_OK && holds(inst, "empty", ""));
    CHECK(backend->delete_key(inst, ck_str("k"), NULL, NULL) == CK_OK && holds(inst, "k", NULL));

    // Keys are bytes, and every byte counts.
    CkSlice zero = ck_slice("a\0b", 3), other = ck_slice("a\0c", 3);
    CkBuf out = {0};
    CHECK(backend->set(inst, zero, ck_slice("\0", 1), CK_TTL_NEVER, NULL, NULL) == CK_OK);
    CHECK(backend->get(inst, other, NULL, &out, NULL) == CK_NO && backend->get(inst, zero, NULL, &out, NULL) == CK_OK);
    CHECK(out.len == 1 && out.ptr[0] == 0);
    ck_buf_release(&out);

    // A table that grows keeps what it holds.
    char key[32], val[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        snprintf(val, sizeof val, "val%d", i);
        CHECK(put(inst, key, val, i % 3 == 0 ? CK_TTL_NEVER : (uint64_t)(600000 + i * 7919 % 10007)) == CK_OK);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        snprintf(val, sizeof val, "val%d", i);
        CHECK(holds(inst, key, val));
        if (i % 2 == 0)
            CHECK(backend->delete_key(inst, ck_str(key), NULL, NULL) == CK_OK);
    }
    CHECK(holds(inst, "key18", NULL) && holds(inst, "key19", "val19"));
    plugin->destroy(inst);
}

static atomic_int released;
static void count_release(void *owner, const uint8_t *ptr, size_t len)
{
    (void)ptr;
    (void)len;
    atomic_fetch_add(&released, 1);
    free(owner);
}

static void buffers_cross_without_a_copy(void)
{
    void *inst = open_with("");
    uint8_t *bytes = malloc(1000);
    CHECK(bytes != NULL);
    memset(bytes, 7, 1000);
    CkBuf val = {bytes, 1000, bytes, count_release};
    CHECK(backend->set_owned(inst, ck_str("k"), &val, CK_TTL_NEVER, NULL, NULL) == CK_OK);
    CHECK(val.ptr == NULL && val.len == 0 && val.owner == NULL && val.release == NULL);

    CkBuf first = {0}, second = {0};
    CHECK(backend->get(inst, ck_str("k"), NULL, &first, NULL) == CK_OK && first.ptr == bytes && first.len == 1000);
    CHECK(backend->get(inst, ck_str("k"), NULL, &second, NULL) == CK_OK && second.ptr == bytes);
    CHECK(backend->delete_key(inst, ck_str("k"), NULL, NULL) == CK_OK);
    ck_buf_release(&second);
    CHECK(atomic_load(&released) == 0 && first.ptr[999] == 7);
    plugin->destroy(inst);
    CHECK(atomic_load(&released) == 0 && first.ptr[0] == 7);
    ck_buf_release(&first);
    CHECK(atomic_load(&released) == 1);
}

static void lives_end(void)
{
    void *inst = open_with("");
    uint64_t left = 0;
    CHECK(expiry->ttl(inst, ck_str("k"), NULL, &left, NULL) == CK_NO);
    CHECK(expiry->touch(inst, ck_str("k"), 1000, NULL, NULL) == CK_NO);
    CHECK(put(inst, "k", "v", CK_TTL_NEVER) == CK_OK);
    CHECK(expiry->ttl(inst, ck_str("k"), NULL, &left, NULL) == CK_OK && left == CK_TTL_NEVER);
    CHECK(expiry->touch(inst, ck_str("k"), 60000, NULL, NULL) == CK_OK);
    CHECK(expiry->ttl(inst, ck_str("k"), NULL, &left, NULL) == CK_OK && left > 0 && left <= 60000);
    CHECK(expiry->touch(inst, ck_str("k"), CK_TTL_NEVER - 1, NULL, NULL) == CK_OK && holds(inst, "k", "v"));
    CHECK(expiry->touch(inst, ck_str("k"), 1, NULL, NULL) == CK_OK);
    CHECK(put(inst, "short", "v", 1) == CK_OK);
    pause_ms(5); // more than the whole life, and nothing is asserted before its end
    CHECK(holds(inst, "k", NULL) && holds(inst, "short", NULL));
    CHECK(backend->exists(inst, ck_str("k"), NULL, NULL) == CK_NO);
    plugin->destroy(inst);
}

static void leases_exclude(void)
{
    void *inst = open_with("");
    CkSlice key = ck_str("k"), one = ck_str("one"), two = ck_str("two");
    CHECK(leases->unlock(inst, key, one, NULL, NULL) == CK_NO);
    CHECK(leases->lock(inst, key, one, 60000, NULL, NULL) == CK_OK);
    CHECK(leases->lock(inst, key, two, 60000, NULL, NULL) == CK_NO);
    CHECK(leases->unlock(inst, key, two, NULL, NULL) == CK_NO);
    CHECK(holds(inst, "k", NULL));
    CHECK(leases->unlock(inst, key, one, NULL, NULL) == CK_OK);
    CHECK(leases->lock(inst, key, two, 1, NULL, NULL) == CK_OK);
    pause_ms(5);
    CHECK(leases->unlock(inst, key, two, NULL, NULL) == CK_NO);
    CHECK(leases->lock(inst, key, one, 60000, NULL, NULL) == CK_OK);
    plugin->destroy(inst);
}

static void fenced_writes_see_others(void)
{
    void *inst = open_with("");
    CkSlice key = ck_str("k");
    CkBuf out = {0};
    CkVersion first, second;
    CHECK(cas->get_version(inst, key, NULL, &out, &first, NULL) == CK_NO);
    CHECK(cas->set_if(inst, key, ck_str("a"), CK_TTL_NEVER, NULL, NULL, NULL) == CK_OK);
    CHECK(cas->set_if(inst, key, ck_str("b"), CK_TTL_NEVER, NULL, NULL, NULL) == CK_NO);
    CHECK(cas->get_version(inst, key, NULL, &out, &first, NULL) == CK_OK && out.len == 1 && out.ptr[0] == 'a');
    ck_buf_release(&out);
    CHECK(put(inst, "k", "a", CK_TTL_NEVER) == CK_OK); // the same value, but another write
    CHECK(cas->set_if(inst, key, ck_str("b"), CK_TTL_NEVER, &first, NULL, NULL) == CK_NO && holds(inst, "k", "a"));
    CHECK(cas->get_version(inst, key, NULL, &out, &second, NULL) == CK_OK);
    ck_buf_release(&out);
    CHECK(cas->set_if(inst, key, ck_str("b"), CK_TTL_NEVER, &second, NULL, NULL) == CK_OK && holds(inst, "k", "b"));
    CHECK(backend->delete_key(inst, key, NULL, NULL) == CK_OK);
    CHECK(cas->set_if(inst, key, ck_str("c"), CK_TTL_NEVER, &second, NULL, NULL) == CK_NO && holds(inst, "k", NULL));
    plugin->destroy(inst);
}

static void batches_answer_each_item(void)
{
    void *inst = open_with("");
    CkItem items[4];
    memset(items, 0, sizeof items);
    const char *keys[4] = {"a", "b", "a", ""};
    for (int i = 0; i < 4; i++) {
        items[i].key = ck_str(keys[i]);
        items[i].val = ck_buf_static(&"1234"[i], 1);
        items[i].ttl_ms = CK_TTL_NEVER;
    }
    CHECK(batch->set_many(inst, items, 4, NULL, NULL) == CK_OK);
    CHECK(items[0].status == CK_OK && items[1].status == CK_OK && items[2].status == CK_OK);
    CHECK(items[3].status == CK_E_TOO_LARGE && items[3].err.msg.len > 0);
    CHECK(holds(inst, "a", "3") && holds(inst, "b", "2"));

    memset(items, 0, sizeof items);
    items[0].key = ck_str("a"), items[1].key = ck_str("none"), items[2].key = ck_str("b");
    CHECK(batch->get_many(inst, items, 3, NULL, NULL) == CK_OK);
    CHECK(items[0].status == CK_OK && items[0].val.ptr[0] == '3' && items[1].status == CK_NO);
    CHECK(items[2].status == CK_OK && items[2].val.ptr[0] == '2');
    for (int i = 0; i < 3; i++)
        ck_buf_release(&items[i].val);
    CHECK(batch->delete_many(inst, items, 3, NULL, NULL) == CK_OK);
    CHECK(items[0].status == CK_OK && items[1].status == CK_NO && items[2].status == CK_OK);
    CHECK(batch->get_many(inst, NULL, 0, NULL, NULL) == CK_OK);
    plugin->destroy(inst);
}

// Counts how often each of `count` keys is listed, page by page, and calls `meanwhile` between pages.
static size_t walk(void *inst, const char *prefix, size_t page, unsigned char *listed, void (*meanwhile)(void *inst))
{
    CkItem items[300];
    CkBuf cursor = {0};
    size_t total = 0;
    do {
        size_t len = 0;
        CkBuf next = {0};
        memset(items, 0, sizeof items);
        int32_t status = scan->next(inst, ck_str(prefix), ck_slice(cursor.ptr, cursor.len), items, page, NULL, &len,
                                    &next, NULL);
        CHECK(status == CK_OK && len <= page);
        for (size_t i = 0; i < len; i++) {
            char text[32];
            CHECK(items[i].val.len < sizeof text && items[i].val.len >= strlen(prefix));
            memcpy(text, items[i].val.ptr, items[i].val.len);
            text[items[i].val.len] = 0;
            CHECK(strncmp(text, prefix, strlen(prefix)) == 0);
            if (listed != NULL && strncmp(text, "key", 3) == 0)
                listed[atoi(text + 3)]++;
            ck_buf_release(&items[i].val);
        }
        total += len;
        ck_buf_release(&cursor);
        cursor = next;
        if (meanwhile != NULL)
            meanwhile(inst);
    } while (cursor.len > 0);
    return total;
}

static void write_and_delete(void *inst)
{
    static int count;
    char key[32];
    for (int i = 0; i < 50 && count < 5000; i++) {
        snprintf(key, sizeof key, "other%d", count++);
        CHECK(put(inst, key, "v", CK_TTL_NEVER) == CK_OK);
        snprintf(key, sizeof key, "other%d", count / 2);
        backend->delete_key(inst, ck_str(key), NULL, NULL);
    }
}

static void scans_list_every_key_once(void)
{
    static unsigned char listed[1000];
    void *inst = open_with("");
    CHECK(walk(inst, "", 10, NULL, NULL) == 0);
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        CHECK(put(inst, key, "v", CK_TTL_NEVER) == CK_OK);
    }
    CHECK(put(inst, "xkey", "v", CK_TTL_NEVER) == CK_OK);
    static const size_t PAGES[] = {1, 7, 300};
    for (size_t page = 0; page < 3; page++) {
        memset(listed, 0, sizeof listed);
        CHECK(walk(inst, "", PAGES[page], listed, NULL) == 1001);
        CHECK(walk(inst, "key", PAGES[page], listed, NULL) == 1000);
        CHECK(walk(inst, "key99", PAGES[page], NULL, NULL) == 11);
        for (int i = 0; i < 1000; i++)
            CHECK(listed[i] == 2);
    }
    // The table grows meanwhile, and others come and go.
    memset(listed, 0, sizeof listed);
    walk(inst, "", 5, listed, write_and_delete);
    for (int i = 0; i < 1000; i++)
        CHECK(listed[i] == 1);

    // Cursors that nobody gave out.
    static const char *CURSORS[] = {"x", "made up", "eight by", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "longer than any key"};
    for (size_t i = 0; i < sizeof CURSORS / sizeof CURSORS[0]; i++) {
        CkItem items[3];
        CkBuf next = {0};
        CkError err = {0};
        size_t len = 0;
        memset(items, 0, sizeof items);
        int32_t status = scan->next(inst, ck_str(""), ck_str(CURSORS[i]), items, 3, NULL, &len, &next, &err);
        CHECK(len <= 3 && (status == CK_OK || err.msg.len > 0));
        for (size_t at = 0; at < len; at++)
            ck_buf_release(&items[at].val);
        ck_buf_release(&next);
    }

    CkBuf out = {0};
    CHECK(scan->read(inst, ck_str("key5"), NULL, &out, NULL) == CK_OK && out.len == 1);
    ck_buf_release(&out);

    uint64_t removed = 0;
    CHECK(clearing->clear(inst, ck_str("key1"), NULL, &removed, NULL) == CK_OK && removed == 111);
    CHECK(holds(inst, "key1", NULL) && holds(inst, "key199", NULL) && holds(inst, "key2", "v"));
    CHECK(clearing->clear(inst, ck_str("nothing"), NULL, &removed, NULL) == CK_OK && removed == 0);
    CHECK(clearing->clear(inst, ck_slice(NULL, 0), NULL, &removed, NULL) == CK_OK && removed > 800);
    CHECK(walk(inst, "", 300, NULL, NULL) == 0);
    plugin->destroy(inst);
}

static void options_are_checked(void)
{
    static const char *GARBAGE[] = {
        "{", "}", "null", "42", "\"text\"", "[]", "{} {}", "{\"max_bytes\":}", "{\"max_bytes\":1048576,}", "{max_bytes:1}",
        "{\"max_bytes\":-1}", "{\"max_bytes\":1.5e6}", "{\"max_bytes\":01048576}", "{\"max_bytes\":\"1048576\"}",
        "{\"max_bytes\":99999999999999999999999999}", "{\"max_bytes\":131071}", "{\"max_entries\":0}",
        "{\"max_bytes\":1048576,\"max_bytes\":1048576}", "{\"max_bytes\":{\"\":{}}}", "{\"max_byte", "{\"max_bytes\\", "{\"a\\",
        "{\"\":1}", "{\"max_bytes\":1048576 1}", "\xff\xfe", "\t", "{\"max_entries\":18446744073709551616}",
        "{\"max_entries\":18446744073709551615}",
    };
    for (size_t i = 0; i < sizeof GARBAGE / sizeof GARBAGE[0]; i++) {
        CkError err = {0};
        void *inst = NULL;
        CHECK(plugin->create(NULL, ck_str(GARBAGE[i]), &inst, &err) == CK_E_CONFIG && inst == NULL);
        CHECK(err.code == CK_E_CONFIG && err.msg.len > 0);
        ck_buf_release(&err.msg);
        CHECK(plugin->create(NULL, ck_str(GARBAGE[i]), &inst, NULL) == CK_E_CONFIG);
    }
    CkError err = {0};
    void *inst = NULL;
    CHECK(plugin->create(NULL, ck_str("{\"max_bites\":1}"), &inst, &err) == CK_E_CONFIG);
    char text[300] = {0};
    CHECK(err.msg.len < sizeof text);
    memcpy(text, err.msg.ptr, err.msg.len);
    CHECK(strstr(text, "max_bites") != NULL);
    ck_buf_release(&err.msg);

    // Every cut of a right text, from memory that ends there.
    static const char RIGHT[] = " { \"max_bytes\" : 1048576 ,\n\t\"max_entries\" : 10 } ";
    for (size_t len = 0; len < sizeof RIGHT; len++) {
        char *cut = malloc(len + 1);
        CHECK(cut != NULL);
        memcpy(cut, RIGHT, len);
        memset(&err, 0, sizeof err);
        // Cutting blanks after the brace leaves it right, and so does leaving nothing.
        bool right = len == 0 || len >= sizeof RIGHT - 2;
        inst = NULL;
        int32_t status = plugin->create(NULL, ck_slice(len == 0 ? NULL : cut, len), &inst, &err);
        CHECK(right ? status == CK_OK : status == CK_E_CONFIG);
        ck_buf_release(&err.msg);
        plugin->destroy(inst);
        free(cut);
    }
}

static void memory_is_bounded(void)
{
    void *inst = open_with("{\"max_bytes\":1048576,\"max_entries\":100}");
    char key[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        CHECK(put(inst, key, "v", CK_TTL_NEVER) == CK_OK);
    }
    CHECK(walk(inst, "", 300, NULL, NULL) == 100);
    CHECK(holds(inst, "key899", NULL) && holds(inst, "key900", "v") && holds(inst, "key999", "v"));

    // What has expired goes before what has not.
    CHECK(put(inst, "key950", "v", 1) == CK_OK);
    pause_ms(5);
    CHECK(put(inst, "new", "v", CK_TTL_NEVER) == CK_OK && holds(inst, "key900", "v") && holds(inst, "key950", NULL));

    CkLimits limits = {0};
    limits.struct_size = sizeof limits;
    CHECK(backend->limits(inst, &limits) == CK_OK && limits.max_key == 65536 && limits.ttl_step_ms == 1);
    CHECK(limits.enumerates == CK_ENUM_KEYS && limits.key_bytes == CK_KEYS_ANY && limits.max_value < 1048576);
    uint8_t *large = calloc(limits.max_value + 1, 1);
    CHECK(large != NULL);
    CkError err = {0};
    CkSlice longest = ck_slice(large, limits.max_key);
    CHECK(backend->set(inst, longest, ck_slice(large, limits.max_value), CK_TTL_NEVER, NULL, &err) == CK_OK);
    CHECK(walk(inst, "new", 300, NULL, NULL) == 0); // it took the whole store
    CHECK(put(inst, "small", "v", CK_TTL_NEVER) == CK_OK);
    CHECK(backend->set(inst, ck_str("small"), ck_slice(large, limits.max_value + 1), CK_TTL_NEVER, NULL, &err) ==
          CK_E_TOO_LARGE);
    CHECK(err.code == CK_E_TOO_LARGE && err.msg.len > 0 && holds(inst, "small", "v"));
    CkBuf refused = ck_buf_malloc(large, limits.max_value + 1);
    CHECK(backend->set_owned(inst, ck_str("small"), &refused, CK_TTL_NEVER, NULL, NULL) == CK_E_TOO_LARGE);
    CHECK(refused.ptr == large); // not taken, so still ours
    CHECK(backend->set(inst, ck_slice(large, limits.max_key + 1), ck_str("v"), CK_TTL_NEVER, NULL, NULL) ==
          CK_E_TOO_LARGE);
    ck_buf_release(&refused);

    // A host from before the last fields of the record.
    CkLimits old;
    memset(&old, 0xee, sizeof old);
    old.struct_size = 24;
    CHECK(backend->limits(inst, &old) == CK_OK && old.max_key == 65536 && old.max_value == UINT64_C(0xeeeeeeeeeeeeeeee));
    plugin->destroy(inst);

    // More evictions than one critical section does.
    inst = open_with("{\"max_bytes\":4194304}");
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        CHECK(put(inst, key, "v", CK_TTL_NEVER) == CK_OK);
    }
    CHECK(backend->limits(inst, &limits) == CK_OK && (large = calloc(limits.max_value, 1)) != NULL);
    CkBuf whole = ck_buf_malloc(large, limits.max_value);
    CHECK(backend->set_owned(inst, ck_str("whole"), &whole, CK_TTL_NEVER, NULL, NULL) == CK_OK);
    CHECK(backend->exists(inst, ck_str("whole"), NULL, NULL) == CK_OK && holds(inst, "key0", NULL));
    CHECK(walk(inst, "", 300, NULL, NULL) < 1000); // what fits into the 64 KiB that its key might have taken
    plugin->destroy(inst);
}

static void instances_are_apart(void)
{
    void *first = open_with(""), *second = open_with("");
    CHECK(put(first, "k", "first", CK_TTL_NEVER) == CK_OK && holds(second, "k", NULL));
    CHECK(put(second, "k", "second", CK_TTL_NEVER) == CK_OK && holds(first, "k", "first"));
    CkBuf out = {0};
    CHECK(backend->health(first, NULL, &out, NULL) == CK_OK && out.len > 0 && out.ptr[0] == '{');
    ck_buf_release(&out);
    CHECK(backend->close(first, NULL, NULL) == CK_OK && backend->close(first, NULL, NULL) == CK_OK);
    plugin->destroy(first);
    CHECK(holds(second, "k", "second"));
    plugin->destroy(second);
}

enum { THREADS = 8, ROUNDS = 5000, KEYS = 64 };
static void *shared;

// Every value is its key, repeated: a reader sees at once whether it got a whole value of the right key.
static void *hammer(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg * 2654435761u + 1;
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 1103515245u + 12345u;
        uint8_t name = (uint8_t)(seed >> 16) % KEYS + 1, text[200];
        size_t len = 1 + (seed >> 8) % sizeof text;
        CkSlice key = ck_slice(&name, 1);
        memset(text, name, sizeof text);
        CkBuf buf = {0};
        CkVersion version = {0, 0};
        uint64_t number;
        switch ((seed >> 24) % 10) {
        case 0:
            CHECK(backend->set(shared, key, ck_slice(text, len), 1 + seed % 3, NULL, NULL) == CK_OK);
            break;
        case 1: {
            uint8_t *mine = malloc(len);
            CHECK(mine != NULL);
            memset(mine, name, len);
            buf = ck_buf_malloc(mine, len);
            CHECK(backend->set_owned(shared, key, &buf, CK_TTL_NEVER, NULL, NULL) == CK_OK);
            break;
        }
        case 2:
            backend->delete_key(shared, key, NULL, NULL);
            break;
        case 3:
            expiry->touch(shared, key, 1 + seed % 50, NULL, NULL);
            break;
        case 4:
            if (leases->lock(shared, key, ck_slice(&seed, sizeof seed), 100000, NULL, NULL) == CK_OK)
                CHECK(leases->unlock(shared, key, ck_slice(&seed, sizeof seed), NULL, NULL) == CK_OK);
            break;
        case 5:
            if (cas->get_version(shared, key, NULL, &buf, &version, NULL) == CK_OK) {
                ck_buf_release(&buf);
                cas->set_if(shared, key, ck_slice(text, len), CK_TTL_NEVER, &version, NULL, NULL);
            }
            break;
        case 6:
            if (round % 50 == 0)
                clearing->clear(shared, key, NULL, &number, NULL);
            break;
        case 7:
            if (round % 10 == 0)
                walk(shared, "", 5, NULL, NULL);
            break;
        default:
            if (backend->get(shared, key, NULL, &buf, NULL) == CK_OK) {
                CHECK(buf.len >= 1);
                for (size_t i = 0; i < buf.len; i++)
                    CHECK(buf.ptr[i] == name);
                ck_buf_release(&buf);
            }
        }
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void)
{
    shared = open_with("{\"max_entries\":50}");
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    uint64_t removed;
    CHECK(clearing->clear(shared, ck_slice(NULL, 0), NULL, &removed, NULL) == CK_OK && removed <= 50);
    plugin->destroy(shared);
}

#ifdef LINKED
// Allocations still to come that succeed, or -1: all do. The linker sends the store's calls here (`--wrap`).
static int budget = -1;

static bool spend(void)
{
    if (budget < 0)
        return true; // and no write, since threads come here too
    if (budget == 0)
        return false;
    budget--;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return spend() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return spend() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    return spend() ? __real_realloc(old, size) : NULL;
}

static bool done_or_no_memory(int32_t status)
{
    CHECK(status == CK_OK || status == CK_NO || status == CK_E_TRANSIENT);
    return status != CK_E_TRANSIENT;
}

// The same calls with room for 0, 1, 2, … allocations: each fails cleanly, until there is room for all.
static void want_of_memory_is_an_error(void)
{
    bool all = false;
    int tried = 0;
    for (; !all; tried++) {
        CHECK(tried < 1000);
        budget = tried;
        void *inst = NULL;
        all = done_or_no_memory(plugin->create(NULL, ck_str(""), &inst, NULL));
        if (inst != NULL) {
            char key[] = "key000";
            for (int i = 0; i < 100; i++) { // enough to grow the table and the heap
                key[3] = (char)('0' + i % 10), key[4] = (char)('0' + i / 10);
                all &= done_or_no_memory(put(inst, key, "v", 60000));
            }
            CkItem items[4];
            CkBuf out = {0}, next = {0}, val = ck_buf_static("v", 1);
            size_t len = 0;
            memset(items, 0, sizeof items);
            all &= done_or_no_memory(backend->set_owned(inst, ck_str("owned"), &val, 60000, NULL, NULL));
            all &= done_or_no_memory(cas->set_if(inst, ck_str("fenced"), ck_str("v"), 60000, NULL, NULL, NULL));
            all &= done_or_no_memory(leases->lock(inst, ck_str("k"), ck_str("t"), 60000, NULL, NULL));
            all &= done_or_no_memory(backend->health(inst, NULL, &out, NULL));
            int32_t status = scan->next(inst, ck_str(""), ck_str(""), items, 4, NULL, &len, &next, NULL);
            all &= done_or_no_memory(status);
            CHECK(status == CK_OK || len == 0);
            for (size_t i = 0; i < len; i++)
                ck_buf_release(&items[i].val);
            ck_buf_release(&next);
            ck_buf_release(&out);
            plugin->destroy(inst);
        }
        CkError err = {0};
        CHECK(plugin->create(NULL, ck_str("{\"x\":1}"), &inst, &err) == CK_E_CONFIG && err.msg.len > 0);
        ck_buf_release(&err.msg);
    }
    CHECK(tried > 100);
    budget = -1;
}

const CkPluginV1 *cachekit_plugin_v1(void);
static CkEntryV1 entry_of(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return cachekit_plugin_v1;
}
#else
#include <dlfcn.h>
static CkEntryV1 entry_of(int argc, char **argv)
{
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    CkEntryV1 entry;
    void *symbol = dlsym(library, CK_ENTRY);
    CHECK(symbol != NULL);
    memcpy(&entry, &symbol, sizeof entry); // ISO C has no conversion from a data pointer to a function pointer
    return entry;
}
#endif

int main(int argc, char **argv)
{
    plugin = entry_of(argc, argv)();
    backend = table(CK_ID_BACKEND, sizeof *backend);
    batch = table(CK_ID_BATCH, sizeof *batch);
    expiry = table(CK_ID_TTL, sizeof *expiry);
    leases = table(CK_ID_LOCK, sizeof *leases);
    cas = table(CK_ID_CAS, sizeof *cas);
    scan = table(CK_ID_SCAN, sizeof *scan);
    clearing = table(CK_ID_CLEAR, sizeof *clearing);
    const CkConfigSchemaV1 *config = table(CK_ID_CONFIG_SCHEMA, sizeof *config);
    CkSlice schema;
    CHECK(config->schema(&schema) == CK_OK && schema.len > 0 && schema.ptr[0] == '{');

    root_is_as_the_header_says();
    values_go_round();
    buffers_cross_without_a_copy();
    lives_end();
    leases_exclude();
    fenced_writes_see_others();
    batches_answer_each_item();
    scans_list_every_key_once();
    options_are_checked();
    memory_is_bounded();
    instances_are_apart();
#ifdef LINKED
    want_of_memory_is_an_error();
#endif
    threads_do_not_disturb_each_other();
    puts("ok");
    return 0;
}
