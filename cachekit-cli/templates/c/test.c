// The store with a clock of its own, and the contract as a host sees it. `cachekit plugin test` asks for much more.
#include <pthread.h>
#include <stdio.h>

#include "options.h"
#include "store.h"

#define CHECK(truth)                                                            \
    do {                                                                        \
        if (!(truth)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #truth); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

const CkPluginV1 *cachekit_plugin_v1(void);

static bool holds(Store *store, const char *key, uint64_t now, const char *val)
{
    Entry *entry = store_get(store, ck_str(key), now);
    bool same = entry != NULL && ck_same(entry_value(entry), ck_str(val));
    if (entry != NULL)
        entry_release(entry);
    return same;
}

static void an_entry_is_gone_at_its_end(void)
{
    Store *store = store_open("lives", 1 << 21, NULL);
    CHECK(store_set(store, ck_str("k"), ck_str("v"), 1000) && store_set(store, ck_str("f"), ck_str("v"), NEVER_NS));
    CHECK(holds(store, "k", 999, "v") && !holds(store, "k", 1000, "v") && holds(store, "f", NEVER_NS - 1, "v"));
    CHECK(!store_delete(store, ck_str("k"), 1000) && store_delete(store, ck_str("f"), 1000));
    CHECK(store_count(store) == 0);
    store_close(store);
}

static void the_oldest_makes_room(void)
{
    static uint8_t large[1 << 19];
    Store *store = store_open("room", 1 << 21, NULL);
    for (int i = 0; i < 8; i++) {
        char key[] = {'k', (char)('0' + i), 0};
        CHECK(store_set(store, ck_str(key), ck_slice(large, sizeof large), NEVER_NS));
    }
    CHECK(store_count(store) == 3);
    Entry *entry = store_get(store, ck_str("k7"), 0);
    CHECK(entry != NULL && store_get(store, ck_str("k4"), 0) == NULL);
    // What was handed out outlives its key and its store.
    CHECK(store_clear(store, ck_str("k")) == 3);
    store_close(store);
    CHECK(entry_value(entry).len == sizeof large && entry_value(entry).ptr[0] == 0);
    entry_release(entry);
}

static void stores_are_shared_by_name(void)
{
    Store *first = store_open("shared", 1 << 21, NULL), *second = store_open("shared", 1 << 21, NULL);
    CkError err;
    CHECK(first == second && store_open("shared", 1 << 22, &err) == NULL && err.code == CK_E_CONFIG);
    store_close(first);
    CHECK(store_set(second, ck_str("k"), ck_str("v"), NEVER_NS) && holds(second, "k", 0, "v"));
    store_close(second);
    Store *third = store_open("shared", 1 << 21, NULL);
    CHECK(store_count(third) == 0);
    store_close(third);
}

static void options_are_checked(void)
{
    static const char *RIGHT[] = {"", "{}", " { } ", "{\"max_bytes\":2097152}", "{ \"name\" : \"a.b\" , \"max_bytes\" : 4194304 }"};
    static const char *WRONG[] = {
        "{", "null", "[]", "{} {}", "{}}", "{\"max_bytes\":}", "{\"max_bytes\":1}", "{\"max_bytes\":-1}", "{\"max_bytes\":02097152}",
        "{\"max_bytes\":99999999999999999999999999}", "{\"max_bytes\":2097152,}", "{\"max_bytes\":2097152,\"max_bytes\":2097152}",
        "{\"name\":\"\"}", "{\"name\":7}", "{\"name\":\"a b\"}", "{\"nam", "{\"name\":\"a", "{\"max_bites\":1}",
    };
    Options options;
    for (size_t i = 0; i < sizeof RIGHT / sizeof RIGHT[0]; i++)
        CHECK(options_parse(ck_str(RIGHT[i]), &options, NULL) == CK_OK);
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        CkError err;
        memset(&err, 0, sizeof err);
        CHECK(options_parse(ck_str(WRONG[i]), &options, &err) == CK_E_CONFIG && err.msg.len > 0);
        ck_buf_release(&err.msg);
    }
}

static void a_host_finds_what_it_needs(void)
{
    const CkPluginV1 *plugin = cachekit_plugin_v1();
    CHECK(plugin->magic == CK_MAGIC && plugin->struct_size == sizeof *plugin);
    const CkBackendV1 *backend = plugin->query(NULL, (const uint8_t *)CK_ID_BACKEND, strlen(CK_ID_BACKEND));
    CHECK(backend != NULL && plugin->query(NULL, (const uint8_t *)"nothing/1", 9) == NULL);
    void *inst = NULL;
    CkError err;
    CkBuf out = ck_buf_empty();
    memset(&err, 0, sizeof err);
    CHECK(plugin->create(NULL, ck_str("{\"name\":\"host\"}"), &inst, &err) == CK_OK);
    CHECK(backend->set(inst, ck_str("k"), ck_str("v"), CK_TTL_NEVER, NULL, &err) == CK_OK);
    CHECK(backend->get(inst, ck_str("k"), NULL, &out, &err) == CK_OK && ck_same(ck_slice(out.ptr, out.len), ck_str("v")));
    ck_buf_release(&out);
    CHECK(backend->get(inst, ck_str("absent"), NULL, &out, &err) == CK_NO);
    CHECK(backend->health(inst, NULL, &out, &err) == CK_OK && out.len > 0);
    ck_buf_release(&out);
    CHECK(backend->close(inst, NULL, &err) == CK_OK && backend->close(inst, NULL, &err) == CK_OK);
    plugin->destroy(inst);
}

enum { THREADS = 4, ROUNDS = 20000 };

// Every value is its key, so that a reader sees whether it got another's.
static void *hammer(void *store)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint8_t name = (uint8_t)(round * 2654435761u >> 24) % 32 + 1;
        CkSlice key = ck_slice(&name, 1);
        if (round % 3 == 0)
            CHECK(store_set(store, key, key, NEVER_NS));
        else if (round % 7 == 0)
            store_delete(store, key, 0);
        Entry *entry = store_get(store, key, 0);
        if (entry != NULL) {
            CHECK(ck_same(entry_value(entry), key));
            entry_release(entry);
        }
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void)
{
    Store *store = store_open("threads", 1 << 21, NULL);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, store) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    store_close(store);
}

int main(void)
{
    an_entry_is_gone_at_its_end();
    the_oldest_makes_room();
    stores_are_shared_by_name();
    options_are_checked();
    a_host_finds_what_it_needs();
    threads_do_not_disturb_each_other();
    puts("ok");
    return 0;
}
