// The store of one instance: a map of entries and a map of leases under one mutex.
#ifndef CMEM_STORE_H
#define CMEM_STORE_H

#include "config.h"
#include "map.h"

typedef struct Store Store;

typedef struct {
    uint64_t entries, bytes, max_bytes, evicted, expired;
} Stats;

// NULL for want of memory.
Store *store_new(const Config *config);
void store_free(Store *store);
// Largest value, bytes.
uint64_t store_max_value(const Store *store);
Stats store_stats(Store *store);

// The entry of a key with a reference for the caller, or NULL.
Entry *store_get(Store *store, CkSlice key);
// Stores `val`. If `taken` is not NULL the value is `*taken` instead, which is taken rather than copied.
// Without `fenced` always; else only if the key has the version `*expect`, or, with `expect` NULL, is absent (CK_NO).
int32_t store_set(Store *store, CkSlice key, CkSlice val, CkBuf *taken, uint64_t ttl_ms, bool fenced,
                  const CkVersion *expect, CkError *err);
int32_t store_delete(Store *store, CkSlice key);
// Milliseconds left, rounded up, or CK_TTL_NEVER.
int32_t store_ttl(Store *store, CkSlice key, uint64_t *ms);
int32_t store_touch(Store *store, CkSlice key, uint64_t ttl_ms, CkError *err);
CkVersion store_version(const Store *store, const Entry *entry);

int32_t store_lock(Store *store, CkSlice key, CkSlice token, uint64_t hold_ms, CkError *err);
int32_t store_unlock(Store *store, CkSlice key, CkSlice token);

// Up to `max` entries that begin with `prefix`, each with a reference for the caller, from `*hash` and `after` on in the
// order of (hash, key). Leaves the next position in `*hash` and `*last` (a reference, or NULL: the start of `*hash`).
// Returns false if that was the end.
bool store_scan(Store *store, CkSlice prefix, uint64_t *hash, CkSlice after, Entry **found, size_t max, size_t *len,
                Entry **last);
uint64_t store_clear(Store *store, CkSlice prefix);

#endif
