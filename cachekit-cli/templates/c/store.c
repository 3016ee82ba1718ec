#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

enum { BUCKETS = 65536 };

struct Entry {
    atomic_size_t holders;
    Entry *next;            // in its bucket
    Entry *older, *younger; // in the order in which they were written
    uint64_t hash, ends_ns;
    size_t key_len, val_len;
    uint8_t bytes[]; // the key, then the value
};

struct Store {
    char *name;
    size_t users; // under `stores_mutex`
    Store *next;
    uint64_t max_bytes, seed;

    pthread_mutex_t mutex; // guards everything below
    Entry *buckets[BUCKETS];
    Entry *oldest, *youngest;
    uint64_t used_bytes, count;
};

// The stores of this process.
static pthread_mutex_t stores_mutex = PTHREAD_MUTEX_INITIALIZER;
static Store *stores;

static Store *store_new(const char *name, uint64_t max_bytes)
{
    Store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    size_t len = strlen(name) + 1;
    store->name = malloc(len);
    // A seed, so that nobody can choose keys that meet in one bucket.
    bool seeded = getrandom(&store->seed, sizeof store->seed, 0) == sizeof store->seed;
    if (store->name == NULL || !seeded || pthread_mutex_init(&store->mutex, NULL) != 0) {
        free(store->name);
        free(store);
        return NULL;
    }
    memcpy(store->name, name, len);
    store->max_bytes = max_bytes;
    return store;
}

Store *store_open(const char *name, uint64_t max_bytes, CkError *err)
{
    pthread_mutex_lock(&stores_mutex);
    Store *store = stores;
    while (store != NULL && strcmp(store->name, name) != 0)
        store = store->next;
    if (store == NULL && (store = store_new(name, max_bytes)) != NULL) {
        store->next = stores;
        stores = store;
    }
    bool same = store != NULL && store->max_bytes == max_bytes;
    if (same)
        store->users++;
    pthread_mutex_unlock(&stores_mutex);
    if (store == NULL)
        ck_fail(err, CK_E_TRANSIENT, "out of memory");
    else if (!same)
        ck_fail(err, CK_E_CONFIG, "option `max_bytes`: the store of this name is open with another");
    return same ? store : NULL;
}

void entry_release(Entry *entry)
{
    if (atomic_fetch_sub_explicit(&entry->holders, 1, memory_order_acq_rel) == 1)
        free(entry);
}

void store_close(Store *store)
{
    pthread_mutex_lock(&stores_mutex);
    bool last = --store->users == 0;
    if (last) {
        Store **link = &stores;
        while (*link != store)
            link = &(*link)->next;
        *link = store->next;
    }
    pthread_mutex_unlock(&stores_mutex);
    if (!last)
        return;
    for (Entry *entry = store->oldest, *younger; entry != NULL; entry = younger) {
        younger = entry->younger;
        entry_release(entry);
    }
    pthread_mutex_destroy(&store->mutex);
    free(store->name);
    free(store);
}

static CkSlice key_of(const Entry *entry)
{
    return ck_slice(entry->bytes, entry->key_len);
}

CkSlice entry_value(const Entry *entry)
{
    return ck_slice(entry->bytes + entry->key_len, entry->val_len);
}

static uint64_t cost_of(const Entry *entry)
{
    return sizeof *entry + entry->key_len + entry->val_len;
}

static uint64_t hash_of(const Store *store, CkSlice key)
{
    uint64_t hash = store->seed;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ key.ptr[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

// The place that points to the entry of a key, or to NULL. Under the mutex.
static Entry **place_of(Store *store, uint64_t hash, CkSlice key)
{
    Entry **place = &store->buckets[hash % BUCKETS];
    while (*place != NULL && !((*place)->hash == hash && ck_same(key_of(*place), key)))
        place = &(*place)->next;
    return place;
}

// Takes an entry out and lets go of it. Under the mutex; a release here never calls foreign code.
static void remove_at(Store *store, Entry **place)
{
    Entry *entry = *place;
    *place = entry->next;
    *(entry->older != NULL ? &entry->older->younger : &store->oldest) = entry->younger;
    *(entry->younger != NULL ? &entry->younger->older : &store->youngest) = entry->older;
    store->used_bytes -= cost_of(entry);
    store->count--;
    entry_release(entry);
}

Entry *store_get(Store *store, CkSlice key, uint64_t now_ns)
{
    uint64_t hash = hash_of(store, key);
    pthread_mutex_lock(&store->mutex);
    Entry *entry = *place_of(store, hash, key);
    if (entry != NULL && entry->ends_ns <= now_ns)
        entry = NULL;
    if (entry != NULL)
        atomic_fetch_add_explicit(&entry->holders, 1, memory_order_relaxed);
    pthread_mutex_unlock(&store->mutex);
    return entry;
}

bool store_set(Store *store, CkSlice key, CkSlice val, uint64_t ends_ns)
{
    Entry *entry = malloc(sizeof *entry + key.len + val.len);
    if (entry == NULL)
        return false;
    atomic_init(&entry->holders, 1);
    entry->hash = hash_of(store, key);
    entry->ends_ns = ends_ns;
    entry->key_len = key.len;
    entry->val_len = val.len;
    memcpy(entry->bytes, key.ptr, key.len);
    if (val.len > 0) // an empty slice may be NULL
        memcpy(entry->bytes + key.len, val.ptr, val.len);

    pthread_mutex_lock(&store->mutex);
    Entry **place = place_of(store, entry->hash, key);
    if (*place != NULL)
        remove_at(store, place);
    // A cache may lose entries; it may not grow for ever.
    while (store->oldest != NULL && store->used_bytes + cost_of(entry) > store->max_bytes)
        remove_at(store, place_of(store, store->oldest->hash, key_of(store->oldest)));
    Entry **bucket = &store->buckets[entry->hash % BUCKETS];
    entry->next = *bucket;
    *bucket = entry;
    entry->older = store->youngest;
    entry->younger = NULL;
    *(store->youngest != NULL ? &store->youngest->younger : &store->oldest) = entry;
    store->youngest = entry;
    store->used_bytes += cost_of(entry);
    store->count++;
    pthread_mutex_unlock(&store->mutex);
    return true;
}

bool store_delete(Store *store, CkSlice key, uint64_t now_ns)
{
    uint64_t hash = hash_of(store, key);
    pthread_mutex_lock(&store->mutex);
    Entry **place = place_of(store, hash, key);
    bool lives = *place != NULL && (*place)->ends_ns > now_ns;
    if (*place != NULL)
        remove_at(store, place);
    pthread_mutex_unlock(&store->mutex);
    return lives;
}

uint64_t store_clear(Store *store, CkSlice prefix)
{
    uint64_t removed = 0;
    pthread_mutex_lock(&store->mutex);
    for (Entry *entry = store->oldest, *younger; entry != NULL; entry = younger) {
        younger = entry->younger;
        if (prefix.len <= entry->key_len && ck_same(ck_slice(entry->bytes, prefix.len), prefix)) {
            remove_at(store, place_of(store, entry->hash, key_of(entry)));
            removed++;
        }
    }
    pthread_mutex_unlock(&store->mutex);
    return removed;
}

uint64_t store_count(Store *store)
{
    pthread_mutex_lock(&store->mutex);
    uint64_t count = store->count;
    pthread_mutex_unlock(&store->mutex);
    return count;
}
