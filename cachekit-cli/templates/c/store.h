// The store itself: bytes under keys, each with an end, in a bounded amount of memory. It knows nothing of plugins, and
// takes the time as an argument, so that its tests need not wait for anything. Replace it by your client.
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>

#include "cachekit_plugin.h"

#define MAX_KEY 1024u
#define MAX_VALUE (UINT64_C(1) << 20)
#define NEVER_NS UINT64_MAX

// Owned by the store and by every buffer that shows its value; whoever lets go last frees it.
typedef struct Entry Entry;
typedef struct Store Store;

// The store of this name, shared with others who open it in this process. NULL with the reason in `err`.
Store *store_open(const char *name, uint64_t max_bytes, CkError *err);
void store_close(Store *store);

// The entry, held for the caller, or NULL.
Entry *store_get(Store *store, CkSlice key, uint64_t now_ns);
CkSlice entry_value(const Entry *entry);
void entry_release(Entry *entry);

// False: no memory. `ends_ns` is a time or NEVER_NS.
bool store_set(Store *store, CkSlice key, CkSlice val, uint64_t ends_ns);
// Whether there was something to delete.
bool store_delete(Store *store, CkSlice key, uint64_t now_ns);
// How many keys that begin with `prefix` are gone now.
uint64_t store_clear(Store *store, CkSlice prefix);
uint64_t store_count(Store *store);

#endif
