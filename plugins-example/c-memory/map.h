// A hash table of reference-counted entries that also knows which entry is oldest and which expires first.
//
// It takes no locks and frees nothing: whoever calls it holds the mutex of the store, and removed entries come back on a
// list, to be released after the mutex. That keeps critical sections short and never runs the host's `release` inside.
#ifndef CMEM_MAP_H
#define CMEM_MAP_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cachekit_plugin.h"

#define NEVER_NS UINT64_MAX

// One key with its value, in one allocation. All but the second half is constant once the entry is in a map, so holders
// of a reference read it without a lock; a new value for a key is a new entry.
typedef struct Entry {
    atomic_size_t refs;
    uint64_t hash;
    CkSlice key;
    CkSlice val;
    CkBuf kept;       // the buffer of the host that holds the value, if it was handed over
    uint64_t version; // number of the write

    // Guarded by the mutex of the store.
    uint64_t expires_ns; // CLOCK_MONOTONIC, or NEVER_NS
    struct Entry *next;  // in the bucket, or on a list of removed entries
    struct Entry *older, *newer;
    size_t heap_at;

    unsigned char bytes[]; // the key, then the value if it was copied
} Entry;

typedef struct {
    Entry **buckets; // each sorted by (hash, key)
    unsigned bits;   // 1 << bits buckets
    Entry *oldest, *newest;
    Entry **heap; // those that expire, the first to do so on top
    size_t heap_len, heap_cap;
    size_t len;
    uint64_t charged; // bytes
} Map;

// Bytes that an entry is charged with beyond those of its key and value: the record, its share of the table, malloc.
#define ENTRY_OVERHEAD (sizeof(Entry) + 48)

// An entry with one reference, or NULL for want of memory. `val` is copied.
Entry *entry_new(uint64_t hash, CkSlice key, CkSlice val);
// The same, but takes the buffer `val` instead of copying it. It is taken only if there was memory.
Entry *entry_adopt(uint64_t hash, CkSlice key, CkBuf *val);
Entry *entry_retain(Entry *entry);
void entry_release(Entry *entry);
// Releases a list of removed entries.
void entries_release(Entry *removed);
uint64_t entry_charge(const Entry *entry);

bool map_init(Map *map);
void map_free(Map *map);
// Makes sure that one more entry can be inserted or can begin to expire. False for want of memory.
bool map_reserve(Map *map);
// The entry of a key, or NULL.
Entry *map_find(const Map *map, uint64_t hash, CkSlice key);
// Adds an entry whose key is not in the map, and takes the caller's reference. `map_reserve` came before.
void map_insert(Map *map, Entry *entry);
// Moves an entry, with the map's reference, to the list `removed`.
void map_remove(Map *map, Entry *entry, Entry **removed);
// Changes when an entry expires. `map_reserve` came before.
void map_expire_at(Map *map, Entry *entry, uint64_t expires_ns);
// The entry that expires first, or NULL.
Entry *map_first_to_expire(const Map *map);

// Number of the bucket that holds a hash. Buckets are ranges of hashes in rising order, so a walk in the order of
// (hash, key) survives that the table grows, and that entries come and go.
static inline size_t map_bucket(const Map *map, uint64_t hash)
{
    return (size_t)(hash >> (64 - map->bits));
}

// SipHash-1-3. Keys may come from strangers, and a hash that they can foresee would let them fill one bucket.
uint64_t map_hash(const uint64_t seed[2], CkSlice key);

#endif
