#include "store.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

enum {
    MOST_LEASES = 65536,
    // Expired entries that one write clears away. More than one, so that they go faster than they come.
    EXPIRED_PER_WRITE = 16,
    // Entries that one critical section evicts. A value as large as the store pushes out everything.
    EVICTED_AT_ONCE = 1024,
    // Buckets that one critical section of a scan or a clear walks through.
    BUCKETS_AT_ONCE = 1024,
};

struct Store {
    Config config;
    uint64_t seed[2]; // of the hashes
    uint64_t epoch;   // high half of versions: those of two instances never meet

    pthread_mutex_t mutex; // guards everything below
    Map entries;
    Map leases;
    uint64_t writes, evicted, expired;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

// When a life that begins now ends. One that is longer than the clock is for ever.
static uint64_t end_of(uint64_t now, uint64_t ttl_ms)
{
    return ttl_ms >= (NEVER_NS - now) / 1000000 ? NEVER_NS : now + ttl_ms * 1000000;
}

Store *store_new(const Config *config)
{
    uint64_t random[3];
    Store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    if (getrandom(random, sizeof random, 0) != sizeof random || !map_init(&store->entries) || !map_init(&store->leases) ||
        pthread_mutex_init(&store->mutex, NULL) != 0) {
        free(store->entries.buckets);
        free(store->leases.buckets);
        free(store);
        return NULL;
    }
    store->config = *config;
    store->seed[0] = random[0];
    store->seed[1] = random[1];
    store->epoch = random[2];
    return store;
}

void store_free(Store *store)
{
    map_free(&store->entries);
    map_free(&store->leases);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

uint64_t store_max_value(const Store *store)
{
    return store->config.max_bytes - MAX_KEY - ENTRY_OVERHEAD;
}

Stats store_stats(Store *store)
{
    pthread_mutex_lock(&store->mutex);
    Stats stats = {store->entries.len, store->entries.charged, store->config.max_bytes, store->evicted, store->expired};
    pthread_mutex_unlock(&store->mutex);
    return stats;
}

CkVersion store_version(const Store *store, const Entry *entry)
{
    CkVersion version = {store->epoch, entry->version}; // the counter begins at 1, so never all zeros
    return version;
}

// Finds an entry that has not expired; one that has goes to `removed`. Under the mutex.
static Entry *find_live(Map *map, uint64_t hash, CkSlice key, uint64_t now, Entry **removed)
{
    Entry *entry = map_find(map, hash, key);
    if (entry == NULL || entry->expires_ns > now)
        return entry;
    map_remove(map, entry, removed);
    return NULL;
}

// Removes up to `most` entries that have expired. Under the mutex.
static size_t drop_expired(Map *map, uint64_t now, size_t most, Entry **removed)
{
    size_t count = 0;
    for (Entry *first; count < most && (first = map_first_to_expire(map)) != NULL && first->expires_ns <= now; count++)
        map_remove(map, first, removed);
    return count;
}

// Removes what is too much: what has expired, then the oldest. False if there is more to do than one critical section
// should. Under the mutex.
static bool trim(Store *store, uint64_t now, Entry **removed)
{
    Map *map = &store->entries;
    store->expired += drop_expired(map, now, EXPIRED_PER_WRITE, removed);
    for (int evicted = 0; map->len > store->config.max_entries || map->charged > store->config.max_bytes; evicted++) {
        if (evicted == EVICTED_AT_ONCE)
            return false;
        if (drop_expired(map, now, 1, removed) == 1) {
            store->expired++;
        } else {
            map_remove(map, map->oldest, removed);
            store->evicted++;
        }
    }
    return true;
}

Entry *store_get(Store *store, CkSlice key)
{
    uint64_t hash = map_hash(store->seed, key), now = now_ns();
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    Entry *entry = find_live(&store->entries, hash, key, now, &removed);
    if (entry != NULL)
        entry_retain(entry);
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);
    return entry;
}

// Whether what is stored, or NULL, is what a fenced write expects. Under the mutex.
static bool is_version(const Store *store, const Entry *old, const CkVersion *expect)
{
    if (expect == NULL || old == NULL)
        return expect == NULL && old == NULL;
    return expect->hi == store->epoch && expect->lo == old->version;
}

int32_t store_set(Store *store, CkSlice key, CkSlice val, CkBuf *taken, uint64_t ttl_ms, bool fenced,
                  const CkVersion *expect, CkError *err)
{
    size_t len = taken != NULL ? taken->len : val.len;
    if (key.len == 0 || key.len > MAX_KEY)
        return ck_fail(err, CK_E_TOO_LARGE, "a key is 1 to 65536 bytes");
    if (len > store_max_value(store))
        return ck_fail(err, CK_E_TOO_LARGE, "the value is larger than `max_bytes` allows");

    uint64_t hash = map_hash(store->seed, key);
    Entry *entry = taken != NULL ? entry_adopt(hash, key, taken) : entry_new(hash, key, val);
    if (entry == NULL)
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");

    int32_t status = CK_OK;
    bool done = true;
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    uint64_t now = now_ns(); // under the mutex: a life begins when the value is there
    Entry *old = find_live(&store->entries, hash, key, now, &removed);
    if (fenced && !is_version(store, old, expect)) {
        status = CK_NO;
    } else if (!map_reserve(&store->entries)) {
        status = CK_E_TRANSIENT;
    } else {
        if (old != NULL)
            map_remove(&store->entries, old, &removed);
        entry->version = ++store->writes;
        entry->expires_ns = end_of(now, ttl_ms);
        map_insert(&store->entries, entry);
        // Afterwards, so that a value that takes the place of another pushes nobody out. The new one is the last to go,
        // and it fits alone.
        done = trim(store, now, &removed);
    }
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);

    while (!done) {
        removed = NULL;
        pthread_mutex_lock(&store->mutex);
        done = trim(store, now, &removed);
        pthread_mutex_unlock(&store->mutex);
        entries_release(removed);
    }
    if (status != CK_OK)
        entry_release(entry);
    return status < 0 ? ck_fail(err, status, "out of memory") : status;
}

int32_t store_delete(Store *store, CkSlice key)
{
    uint64_t hash = map_hash(store->seed, key), now = now_ns();
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    Entry *entry = find_live(&store->entries, hash, key, now, &removed);
    if (entry != NULL)
        map_remove(&store->entries, entry, &removed);
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);
    return entry != NULL ? CK_OK : CK_NO;
}

int32_t store_ttl(Store *store, CkSlice key, uint64_t *ms)
{
    uint64_t hash = map_hash(store->seed, key), now = now_ns();
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    Entry *entry = find_live(&store->entries, hash, key, now, &removed);
    uint64_t ends = entry != NULL ? entry->expires_ns : 0;
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);
    if (ends == 0)
        return CK_NO;
    *ms = ends == NEVER_NS ? CK_TTL_NEVER : (ends - now + 999999) / 1000000;
    return CK_OK;
}

int32_t store_touch(Store *store, CkSlice key, uint64_t ttl_ms, CkError *err)
{
    uint64_t hash = map_hash(store->seed, key);
    int32_t status = CK_NO;
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    uint64_t now = now_ns();
    Entry *entry = find_live(&store->entries, hash, key, now, &removed);
    if (entry != NULL) {
        status = map_reserve(&store->entries) ? CK_OK : CK_E_TRANSIENT;
        if (status == CK_OK)
            map_expire_at(&store->entries, entry, end_of(now, ttl_ms));
    }
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);
    return status < 0 ? ck_fail(err, status, "out of memory") : status;
}

// A lease is an entry whose value is the token. Leases are never evicted: that would let two holders in.
int32_t store_lock(Store *store, CkSlice key, CkSlice token, uint64_t hold_ms, CkError *err)
{
    if (key.len == 0 || key.len > MAX_KEY || token.len > MAX_KEY)
        return ck_fail(err, CK_E_TOO_LARGE, "a key is 1 to 65536 bytes, a token at most 65536");
    uint64_t hash = map_hash(store->seed, key);
    Entry *lease = entry_new(hash, key, token);
    if (lease == NULL)
        return ck_fail(err, CK_E_TRANSIENT, "out of memory");

    int32_t status = CK_OK;
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    uint64_t now = now_ns();
    drop_expired(&store->leases, now, EXPIRED_PER_WRITE, &removed);
    if (find_live(&store->leases, hash, key, now, &removed) != NULL) {
        status = CK_NO;
    } else if (store->leases.len >= MOST_LEASES || !map_reserve(&store->leases)) {
        status = CK_E_TRANSIENT;
    } else {
        lease->expires_ns = end_of(now, hold_ms);
        map_insert(&store->leases, lease);
    }
    pthread_mutex_unlock(&store->mutex);

    entries_release(removed);
    if (status != CK_OK)
        entry_release(lease);
    return status < 0 ? ck_fail(err, status, "no room for another lease") : status;
}

int32_t store_unlock(Store *store, CkSlice key, CkSlice token)
{
    uint64_t hash = map_hash(store->seed, key), now = now_ns();
    Entry *removed = NULL;
    pthread_mutex_lock(&store->mutex);
    Entry *lease = find_live(&store->leases, hash, key, now, &removed);
    bool held = lease != NULL && ck_same(lease->val, token);
    if (held)
        map_remove(&store->leases, lease, &removed);
    pthread_mutex_unlock(&store->mutex);
    entries_release(removed);
    return held ? CK_OK : CK_NO;
}

static bool begins_with(CkSlice key, CkSlice prefix)
{
    return prefix.len <= key.len && (prefix.len == 0 || memcmp(key.ptr, prefix.ptr, prefix.len) == 0);
}

// Where a bucket ends: the first hash of the next one. False if it is the last.
static bool next_bucket(const Map *map, size_t bucket, uint64_t *hash)
{
    if (bucket + 1 >= (size_t)1 << map->bits)
        return false;
    *hash = (uint64_t)(bucket + 1) << (64 - map->bits);
    return true;
}

// Whether an entry stands behind the position (hash, after). Nothing but an empty `after` comes before an entry's key.
static bool stands_behind(const Entry *entry, uint64_t hash, CkSlice after)
{
    if (entry->hash != hash)
        return entry->hash > hash;
    size_t shorter = after.len < entry->key.len ? after.len : entry->key.len;
    int order = shorter == 0 ? 0 : memcmp(entry->key.ptr, after.ptr, shorter);
    return order != 0 ? order > 0 : entry->key.len > after.len;
}

bool store_scan(Store *store, CkSlice prefix, uint64_t *hash, CkSlice after, Entry **found, size_t max, size_t *len,
                Entry **last)
{
    uint64_t now = now_ns(), from = *hash;
    bool more = true;
    *len = 0;
    *last = NULL;
    pthread_mutex_lock(&store->mutex);
    Map *map = &store->entries;
    for (int walked = 0; more && walked < BUCKETS_AT_ONCE && *last == NULL; walked++) {
        size_t bucket = map_bucket(map, *hash);
        for (Entry *entry = map->buckets[bucket]; entry != NULL && *last == NULL; entry = entry->next) {
            if (!stands_behind(entry, from, after) || entry->expires_ns <= now || !begins_with(entry->key, prefix))
                continue;
            found[(*len)++] = entry_retain(entry);
            if (*len == max) {
                *last = entry_retain(entry);
                *hash = entry->hash;
            }
        }
        if (*last == NULL)
            more = next_bucket(map, bucket, hash);
    }
    pthread_mutex_unlock(&store->mutex);
    return more;
}

uint64_t store_clear(Store *store, CkSlice prefix)
{
    uint64_t now = now_ns(), hash = 0, count = 0;
    for (bool more = true; more;) {
        Entry *removed = NULL;
        pthread_mutex_lock(&store->mutex);
        Map *map = &store->entries;
        for (int walked = 0; more && walked < BUCKETS_AT_ONCE; walked++) {
            size_t bucket = map_bucket(map, hash);
            for (Entry *entry = map->buckets[bucket], *next; entry != NULL; entry = next) {
                next = entry->next;
                if (begins_with(entry->key, prefix)) {
                    count += entry->expires_ns > now;
                    map_remove(map, entry, &removed);
                }
            }
            more = next_bucket(map, bucket, &hash);
        }
        pthread_mutex_unlock(&store->mutex);
        entries_release(removed);
    }
    return count;
}
