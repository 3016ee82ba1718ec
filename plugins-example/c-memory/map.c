#include "map.h"

enum { FIRST_BITS = 6, MOST_BITS = 30 };

static Entry *allocate(uint64_t hash, CkSlice key, size_t room)
{
    if (room > SIZE_MAX - sizeof(Entry) - key.len)
        return NULL;
    Entry *entry = malloc(sizeof(Entry) + key.len + room);
    if (entry == NULL)
        return NULL;
    memset(entry, 0, sizeof *entry);
    atomic_init(&entry->refs, 1);
    entry->hash = hash;
    entry->expires_ns = NEVER_NS;
    if (key.len > 0)
        memcpy(entry->bytes, key.ptr, key.len);
    entry->key = ck_slice(entry->bytes, key.len);
    return entry;
}

Entry *entry_new(uint64_t hash, CkSlice key, CkSlice val)
{
    Entry *entry = allocate(hash, key, val.len);
    if (entry == NULL)
        return NULL;
    unsigned char *copy = entry->bytes + key.len;
    if (val.len > 0)
        memcpy(copy, val.ptr, val.len);
    entry->val = ck_slice(copy, val.len);
    return entry;
}

Entry *entry_adopt(uint64_t hash, CkSlice key, CkBuf *val)
{
    Entry *entry = allocate(hash, key, 0);
    if (entry == NULL)
        return NULL;
    entry->kept = ck_buf_take(val);
    entry->val = ck_slice(entry->kept.ptr, entry->kept.len);
    return entry;
}

Entry *entry_retain(Entry *entry)
{
    // Whoever adds a reference already has one, or the mutex; nothing needs to be ordered.
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    return entry;
}

void entry_release(Entry *entry)
{
    // Every holder's reads happen before the last one frees.
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1) {
        ck_buf_release(&entry->kept);
        free(entry);
    }
}

void entries_release(Entry *removed)
{
    while (removed != NULL) {
        Entry *next = removed->next;
        entry_release(removed);
        removed = next;
    }
}

uint64_t entry_charge(const Entry *entry)
{
    return (uint64_t)entry->key.len + entry->val.len + ENTRY_OVERHEAD;
}

bool map_init(Map *map)
{
    memset(map, 0, sizeof *map);
    map->bits = FIRST_BITS;
    map->buckets = calloc((size_t)1 << FIRST_BITS, sizeof *map->buckets);
    return map->buckets != NULL;
}

void map_free(Map *map)
{
    Entry *entry = map->oldest;
    while (entry != NULL) {
        Entry *newer = entry->newer;
        entry_release(entry);
        entry = newer;
    }
    free(map->buckets);
    free(map->heap);
    memset(map, 0, sizeof *map);
}

// The order of the entries of a bucket.
static int compare(uint64_t hash_a, CkSlice a, uint64_t hash_b, CkSlice b)
{
    if (hash_a != hash_b)
        return hash_a < hash_b ? -1 : 1;
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.ptr, b.ptr, shorter);
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

// The link to the first entry of the bucket that does not come before (hash, key).
static Entry **seek(const Map *map, uint64_t hash, CkSlice key)
{
    Entry **link = &map->buckets[map_bucket(map, hash)];
    while (*link != NULL && compare((*link)->hash, (*link)->key, hash, key) < 0)
        link = &(*link)->next;
    return link;
}

Entry *map_find(const Map *map, uint64_t hash, CkSlice key)
{
    Entry *entry = *seek(map, hash, key);
    return entry != NULL && entry->hash == hash && ck_same(entry->key, key) ? entry : NULL;
}

static void heap_put(Map *map, size_t at, Entry *entry)
{
    map->heap[at] = entry;
    entry->heap_at = at;
}

// Moves the entry to where it belongs from `at`, which is free.
static void heap_settle(Map *map, size_t at, Entry *entry)
{
    while (at > 0 && entry->expires_ns < map->heap[(at - 1) / 2]->expires_ns) {
        heap_put(map, at, map->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= map->heap_len)
            break;
        if (child + 1 < map->heap_len && map->heap[child + 1]->expires_ns < map->heap[child]->expires_ns)
            child++;
        if (entry->expires_ns <= map->heap[child]->expires_ns)
            break;
        heap_put(map, at, map->heap[child]);
        at = child;
    }
    heap_put(map, at, entry);
}

static void heap_add(Map *map, Entry *entry)
{
    if (entry->expires_ns != NEVER_NS) {
        map->heap_len++;
        heap_settle(map, map->heap_len - 1, entry);
    }
}

static void heap_take(Map *map, Entry *entry)
{
    if (entry->expires_ns == NEVER_NS)
        return;
    Entry *last = map->heap[--map->heap_len];
    if (last != entry)
        heap_settle(map, entry->heap_at, last);
}

bool map_reserve(Map *map)
{
    if (map->heap_len < map->heap_cap)
        return true;
    size_t cap = map->heap_cap == 0 ? 64 : map->heap_cap * 2;
    if (cap > SIZE_MAX / sizeof *map->heap)
        return false;
    Entry **heap = realloc(map->heap, cap * sizeof *heap);
    if (heap == NULL)
        return false;
    map->heap = heap;
    map->heap_cap = cap;
    return true;
}

// Doubles the number of buckets. Without memory for that the buckets just get longer.
static void grow(Map *map)
{
    size_t count = (size_t)1 << map->bits;
    if (map->len < count || map->bits >= MOST_BITS)
        return;
    Entry **larger = calloc(count * 2, sizeof *larger);
    if (larger == NULL)
        return;
    map->bits++;
    for (size_t at = 0; at < count; at++) {
        // A bucket falls into two neighbours, and its order says where.
        Entry **link = &map->buckets[at];
        while (*link != NULL && map_bucket(map, (*link)->hash) == 2 * at)
            link = &(*link)->next;
        larger[2 * at + 1] = *link;
        *link = NULL;
        larger[2 * at] = map->buckets[at];
    }
    free(map->buckets);
    map->buckets = larger;
}

void map_insert(Map *map, Entry *entry)
{
    grow(map);
    Entry **link = seek(map, entry->hash, entry->key);
    entry->next = *link;
    *link = entry;

    entry->older = map->newest;
    entry->newer = NULL;
    *(map->newest != NULL ? &map->newest->newer : &map->oldest) = entry;
    map->newest = entry;

    heap_add(map, entry);
    map->len++;
    map->charged += entry_charge(entry);
}

void map_remove(Map *map, Entry *entry, Entry **removed)
{
    Entry **link = seek(map, entry->hash, entry->key);
    *link = entry->next;
    *(entry->older != NULL ? &entry->older->newer : &map->oldest) = entry->newer;
    *(entry->newer != NULL ? &entry->newer->older : &map->newest) = entry->older;
    heap_take(map, entry);
    map->len--;
    map->charged -= entry_charge(entry);

    entry->next = *removed;
    *removed = entry;
}

void map_expire_at(Map *map, Entry *entry, uint64_t expires_ns)
{
    heap_take(map, entry);
    entry->expires_ns = expires_ns;
    heap_add(map, entry);
}

Entry *map_first_to_expire(const Map *map)
{
    return map->heap_len > 0 ? map->heap[0] : NULL;
}

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t map_hash(const uint64_t seed[2], CkSlice key)
{
    uint64_t v[4] = {
        seed[0] ^ UINT64_C(0x736f6d6570736575),
        seed[1] ^ UINT64_C(0x646f72616e646f6d),
        seed[0] ^ UINT64_C(0x6c7967656e657261),
        seed[1] ^ UINT64_C(0x7465646279746573),
    };
    uint64_t word = 0;
    for (size_t at = 0; at < key.len; at++) {
        word |= (uint64_t)key.ptr[at] << (at % 8 * 8);
        if (at % 8 == 7) {
            v[3] ^= word;
            sip_round(v);
            v[0] ^= word;
            word = 0;
        }
    }
    word |= (uint64_t)key.len << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int round = 0; round < 3; round++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
