// Generated from the crate cachekit-abi by `cargo xtask header`. Do not edit.
//
// The law between a cachekit host and its plugins: plain C types, nothing else.
//
// A plugin exports one function that returns a `CkPluginV1` of 40 bytes. Everything else is found by asking
// `CkPluginV1.query` for a capability by its id, which answers with a table of functions or NULL. **No table and no
// record in this crate ever grows or changes**: a change is a new id beside the old one. So a plugin built today loads
// in every later host, and a later plugin runs in today's host with fewer powers.
//
// The contract is frozen since 1.0: backends for files, Redis, Memcached and cachekit.io had passed through it before.
// `tests/frozen-1.0.txt` holds every size, offset, type and number, and a test names what moved.
//
// The C header `include/cachekit_plugin.h` is generated from this crate and compiled against its own layout in a test.
// Rust authors never see these types: they depend on `cachekit-plugin`.
//
// # Rules that hold everywhere
//
// * Threads: every function may be called from any thread and at the same time as any other, unless its comment says
//   otherwise. `create` and `destroy` are serialised by the host.
// * A `CkSlice` is borrowed for the call it is passed to, no longer. A `CkBuf` is owned by whoever holds it.
// * Text is UTF-8 without a terminating zero.
// * No function unwinds. A plugin catches its own exceptions and panics and answers `CK_E_PANIC`.
// * `struct_size` is set by whoever fills a record; whoever reads it never reads past it.

#ifndef CACHEKIT_PLUGIN_H
#define CACHEKIT_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// `CACHEKT1` in memory, read as a little-endian number.
#define CK_MAGIC UINT64_C(0x31544b4548434143)

// Id of `CkBackendV1`: the one capability a plugin must have.
#define CK_ID_BACKEND "cachekit.backend/1"

// Id of `CkAsyncV1`.
#define CK_ID_ASYNC "cachekit.async/1"

// Id of `CkBatchV1`.
#define CK_ID_BATCH "cachekit.batch/1"

// Id of `CkTtlV1`.
#define CK_ID_TTL "cachekit.ttl/1"

// Id of `CkLockV1`.
#define CK_ID_LOCK "cachekit.lock/1"

// Id of `CkCasV1`.
#define CK_ID_CAS "cachekit.cas/1"

// Id of `CkScanV1`.
#define CK_ID_SCAN "cachekit.scan/1"

// Id of `CkClearV1`.
#define CK_ID_CLEAR "cachekit.clear/1"

// Id of `CkConfigSchemaV1`.
#define CK_ID_CONFIG_SCHEMA "cachekit.config-schema/1"

// Id of `CkWatchV1`.
#define CK_ID_WATCH "cachekit.watch/1"

// Id of `CkFreshnessV1`.
#define CK_ID_FRESHNESS "cachekit.freshness/1"

// Id of `CkHostEventV1`, asked of the *host*.
#define CK_ID_HOST_EVENT "cachekit.host.event/1"

// Id of `CkHostActivityV1`, asked of the *host*.
#define CK_ID_HOST_ACTIVITY "cachekit.host.activity/1"

// Id of `CkHostMetricV1`, asked of the *host*.
#define CK_ID_HOST_METRIC "cachekit.host.metric/1"

// The default name of the exported entry function. Rust plugins append their crate name, so that two of them can be
// linked into one program; the identity note says which name a library uses.
#define CK_ENTRY "cachekit_plugin_v1"

// Owner of the ELF note (section `.note.cachekit`) that holds a plugin's identity as JSON:
// `{"id","version","abi","panic","entry"}`.
#define CK_NOTE_OWNER "cachekit"

// Marks the one function that a plugin exports. Build everything else with `-fvisibility=hidden`.
#if defined(__cplusplus)
#define CK_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define CK_EXPORT __attribute__((visibility("default")))
#endif

#define CK_TEXT_OF(x) #x
#define CK_TEXT(x) CK_TEXT_OF(x)

// The identity of a library as an ELF note, readable without loading the library. Stands once, outside of any function:
//
//     CK_PLUGIN_NOTE("acme.store", "1.2.3");
//
// `id` (for operators: vendor.store) and `version` are string literals without quotes and backslashes in them. The entry
// function is then called `cachekit_plugin_v1`.
#define CK_PLUGIN_NOTE(id, version) \
    CK_PLUGIN_NOTE_OF(id, version, CK_TEXT(CK_ABI_MAJOR) "." CK_TEXT(CK_ABI_MINOR), "unwind", CK_ENTRY)

// The same with every field. `panic` is "unwind" unless an exception or a failed assertion ends the process ("abort").
#define CK_PLUGIN_NOTE_OF(id, version, abi, panic, entry) \
    CK_PLUGIN_NOTE_JSON("{\\\"id\\\":\\\"" id "\\\",\\\"version\\\":\\\"" version "\\\",\\\"abi\\\":\\\"" abi \
                        "\\\",\\\"panic\\\":\\\"" panic "\\\",\\\"entry\\\":\\\"" entry "\\\"}")

// The note around a text that is already escaped for the assembler. It is assembler because C cannot give a section the
// type `note`; `%` instead of `@` because the latter begins a comment on ARM. The text is padded with spaces, which JSON
// allows, to a multiple of four.
#define CK_PLUGIN_NOTE_JSON(text) \
    __asm__(".pushsection .note.cachekit,\"a\",%note\n" \
            ".balign 4\n" \
            ".4byte 9\n" \
            ".4byte 2f-1f\n" \
            ".4byte " CK_TEXT(CK_NOTE_TYPE) "\n" \
            ".asciz \"" CK_NOTE_OWNER "\"\n" \
            ".balign 4\n" \
            "1:\n" \
            ".ascii \"" text "\"\n" \
            ".balign 4, 0x20\n" \
            "2:\n" \
            ".popsection\n")

// In `CkBackendV1.flags`: no function ever waits for anything but memory, so hosts may call from any thread,
// asynchronous ones included. Without it hosts call from threads that may block.
#define CK_BACKEND_FAST 1

// In `CkLimits.key_bytes`: any byte.
#define CK_KEYS_ANY 0

// In `CkLimits.key_bytes`: `!` to `~`.
#define CK_KEYS_PRINTABLE 1

// In `CkLimits.enumerates`: a scan is not possible.
#define CK_ENUM_NO 0

// In `CkLimits.enumerates`: a scan lists keys.
#define CK_ENUM_KEYS 1

// In `CkLimits.enumerates`: a scan lists opaque ids.
#define CK_ENUM_IDS 2

// Done, or a hit.
#define CK_OK 0

// A miss, or "no": absent, not stored, held by another. Not an error.
#define CK_NO 1

// Only from `CkAsyncV1.poll`: not yet; the waker will be woken.
#define CK_PENDING 2

// A defect of the plugin.
#define CK_E_INTERNAL (-1)

// A panic or exception was caught at the plugin's border.
#define CK_E_PANIC (-2)

// The store could not be reached or dropped the exchange.
#define CK_E_TRANSIENT (-3)

// The deadline passed.
#define CK_E_TIMEOUT (-4)

// The store asked for fewer requests; `retry_after_ms` says for how long.
#define CK_E_THROTTLED (-5)

// Credentials were refused or missing.
#define CK_E_AUTH (-6)

// The configuration cannot work.
#define CK_E_CONFIG (-7)

// Key or value beyond what the store takes.
#define CK_E_TOO_LARGE (-8)

// The instance lacks this power.
#define CK_E_UNSUPPORTED (-9)

// The store answered with bytes that cannot be right.
#define CK_E_CORRUPT (-10)

// The instance was created before `fork()` and cannot work in the child.
#define CK_E_FORKED (-11)

// In `ttl_ms`: no expiry. Zero never crosses the border.
#define CK_TTL_NEVER UINT64_MAX

// In `deadline_ns`: no deadline.
#define CK_DEADLINE_NEVER UINT64_MAX

// In `CkError.flags`: trying again may help, whatever the status usually says.
#define CK_ERROR_RETRY 1

// In `CkError.flags`: trying again cannot help, whatever the status usually says.
#define CK_ERROR_NO_RETRY 2

// `CkOp.kind`: `key` → `CkOut.buf`.
#define CK_OP_GET 1

// `CkOp.kind`: `key`, `val`, `ttl_ms`.
#define CK_OP_SET 2

// `CkOp.kind`: `key`.
#define CK_OP_DELETE 3

// `CkOp.kind`: `key`.
#define CK_OP_EXISTS 4

// `CkOp.kind`: → JSON in `CkOut.buf`.
#define CK_OP_HEALTH 5

// `CkOp.kind`.
#define CK_OP_CLOSE 6

// `CkOp.kind`: `items`.
#define CK_OP_GET_MANY 7

// `CkOp.kind`: `items`.
#define CK_OP_SET_MANY 8

// `CkOp.kind`: `items`.
#define CK_OP_DELETE_MANY 9

// `CkOp.kind`: `key` → milliseconds in `CkOut.num`.
#define CK_OP_TTL 10

// `CkOp.kind`: `key`, `ttl_ms`.
#define CK_OP_TOUCH 11

// `CkOp.kind`: `key`, token in `aux`, hold in `ttl_ms`.
#define CK_OP_LOCK 12

// `CkOp.kind`: `key`, token in `aux`.
#define CK_OP_UNLOCK 13

// `CkOp.kind`: `key` → `CkOut.buf`, `CkOut.version`.
#define CK_OP_GET_VERSION 14

// `CkOp.kind`: `key`, `val`, `ttl_ms`, `version` (NULL: absent).
#define CK_OP_SET_IF 15

// `CkOp.kind`: prefix in `key`, cursor in `aux`, room in `items` → count in `CkOut.num`, next cursor in
// `CkOut.buf`.
#define CK_OP_SCAN 16

// `CkOp.kind`: id in `key` → `CkOut.buf`.
#define CK_OP_READ 17

// `CkOp.kind`: prefix in `key` → count in `CkOut.num`.
#define CK_OP_CLEAR 18

// `CkOp.kind`: prefix in `key`, number of the watch in `num`. Ended by `CkWatchV1.unwatch`.
#define CK_OP_WATCH 19

// `CkOp.kind`: `key` → `CkOut.buf`, `CK_DATED_*` in `CkOut.flags`, milliseconds or `CK_FRESH_UNKNOWN` in
// `CkOut.num`.
#define CK_OP_GET_DATED 20

// `CkOp.kind`: `key`, `val`, `ttl_ms`, stale window in `num`.
#define CK_OP_SET_STALE 21

// Log levels.
#define CK_LOG_ERROR 1

// Log levels.
#define CK_LOG_WARN 2

// Log levels.
#define CK_LOG_INFO 3

// Log levels.
#define CK_LOG_DEBUG 4

// Log levels.
#define CK_LOG_TRACE 5

// `CkHostEventV1.emit`: the entry of `key` changed or went.
#define CK_EVENT_CHANGED 1

// `CkHostEventV1.emit`: anything may have changed.
#define CK_EVENT_EVERYTHING 2

// `CkHostEventV1.emit`: changes can no longer be told; this watch is over.
#define CK_EVENT_LOST 3

// `CkHostMetricV1.define`: a number that only grows; `record` adds to it.
#define CK_METRIC_COUNTER 1

// `CkHostMetricV1.define`: a number as it is now; `record` sets it.
#define CK_METRIC_GAUGE 2

// In `CkActivity.flags`: there is an in-process tier.
#define CK_ACTIVITY_L1 1

// In `CkFreshnessV1`: past its life, inside its stale window.
#define CK_DATED_STALE 1

// In `CkFreshnessV1`: the store did not say for how long the value may be kept.
#define CK_FRESH_UNKNOWN UINT64_MAX

// Hosts accept exactly their own.
#define CK_ABI_MAJOR 1

// Counts what was added since 1.0. It tells people what to expect; hosts accept every one, because a power that one side
// does not know is asked for by its id and not found.
#define CK_ABI_MINOR 0

// Type of that note.
#define CK_NOTE_TYPE 1

// What keys, values and lives an instance takes.
typedef struct {
    // `sizeof(CkLimits)`.
    uint32_t struct_size;
    // Longest key, bytes.
    uint32_t max_key;
    // `CK_KEYS_*`.
    uint32_t key_bytes;
    // `CK_ENUM_*`.
    uint32_t enumerates;
    // A deadline that suits the store, milliseconds, or 0.
    uint32_t deadline_hint_ms;
    // 0.
    uint32_t reserved;
    // Largest value, bytes.
    uint64_t max_value;
    // Lives are rounded up to this step, milliseconds.
    uint64_t ttl_step_ms;
    // Longer lives are shortened to this, milliseconds; `CK_TTL_NEVER`: no ceiling.
    uint64_t ttl_max_ms;
} CkLimits;

// Borrowed bytes. `ptr` may be NULL or dangling when `len` is 0.
typedef struct {
    // First byte.
    const uint8_t *ptr;
    // Number of bytes.
    size_t len;
} CkSlice;

// What accompanies a call. A NULL pointer to it means: no deadline, no trace.
typedef struct {
    // `sizeof(CkCallOpt)`.
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // When the caller stops waiting: `CLOCK_MONOTONIC`, nanoseconds, or `CK_DEADLINE_NEVER`.
    uint64_t deadline_ns;
    // W3C traceparent, or empty.
    CkSlice traceparent;
} CkCallOpt;

// Owned bytes. Whoever holds one calls `release(owner, ptr, len)` exactly once, from any thread; NULL means that there
// is nothing to release (static data, or an empty buffer). The bytes never change while they are held.
//
// To take a buffer out of a record, copy the struct and fill the original with zeros.
typedef struct {
    // First byte.
    const uint8_t *ptr;
    // Number of bytes.
    size_t len;
    // Handed back to `release`.
    void *owner;
    // Ends the ownership, or NULL.
    void (*release)(void *owner, const uint8_t *ptr, size_t len);
} CkBuf;

// What a failed call says beyond its status. The caller passes one filled with zeros; the callee may leave it so.
typedef struct {
    // The status that the function returns.
    int32_t code;
    // `CK_ERROR_*`.
    uint32_t flags;
    // With a retry: milliseconds to wait before.
    uint64_t retry_after_ms;
    // Why, for an operator. No key, value or secret. Hosts cut it at 4 KiB.
    CkBuf msg;
} CkError;

// The table behind `CK_ID_BACKEND`. Frozen.
typedef struct {
    // `sizeof(CkBackendV1)`.
    uint32_t struct_size;
    // `CK_BACKEND_*`.
    uint32_t flags;
    // Fills `out`, whose `struct_size` the host has set.
    int32_t (*limits)(void *inst, CkLimits *out);
    // `CK_OK` with `out` filled, or `CK_NO`.
    int32_t (*get)(void *inst, CkSlice key, const CkCallOpt *opt, CkBuf *out, CkError *err);
    // Stores borrowed bytes. `ttl_ms` ≥ 1, or `CK_TTL_NEVER`.
    int32_t (*set)(void *inst, CkSlice key, CkSlice val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err);
    // As `set`; the plugin may keep the buffer by filling `*val` with zeros.
    int32_t (*set_owned)(void *inst, CkSlice key, CkBuf *val, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err);
    // `CK_OK` if there was something to delete, else `CK_NO`.
    int32_t (*delete_key)(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err);
    // `CK_OK` if present, else `CK_NO`.
    int32_t (*exists)(void *inst, CkSlice key, const CkCallOpt *opt, CkError *err);
    // Fills `out` with JSON: `healthy`, `latency_ms`, `backend_type`, optionally `details`.
    int32_t (*health)(void *inst, const CkCallOpt *opt, CkBuf *out, CkError *err);
    // Flushes and releases what the instance holds; may be called twice. `destroy` follows.
    int32_t (*close)(void *inst, const CkCallOpt *opt, CkError *err);
} CkBackendV1;

// A name and a value beside a log message.
typedef struct {
    // Name.
    CkSlice key;
    // Value.
    CkSlice val;
} CkKv;

// The identity of one write of a key. Two writes never share one; all zeros is never one.
typedef struct {
    // High half.
    uint64_t hi;
    // Low half.
    uint64_t lo;
} CkVersion;

// One element of a batch or of a page of a scan. The array belongs to the host.
typedef struct {
    // In: the key. Unused in a scan.
    CkSlice key;
    // In `set_many`: the value; the plugin may take it. Out in `get_many`: the value. Out in a scan: the key or id.
    CkBuf val;
    // In `set_many`: life, milliseconds, or `CK_TTL_NEVER`.
    uint64_t ttl_ms;
    // Out: `CK_OK`, `CK_NO` or an error, as the single operation would return it.
    int32_t status;
    // 0.
    uint32_t reserved;
    // Out, with an error.
    CkError err;
} CkItem;

// One operation. All pointers are valid during `start` only, except `items`, which lives with its keys until `drop_op`
// returns.
typedef struct {
    // `sizeof(CkOp)`.
    uint32_t struct_size;
    // `CK_OP_*`.
    uint32_t kind;
    // Key, prefix or id.
    CkSlice key;
    // Token or cursor.
    CkSlice aux;
    // The value, which the plugin may take; or NULL.
    CkBuf *val;
    // Life or hold, milliseconds.
    uint64_t ttl_ms;
    // Number of a watch, or a stale window in milliseconds.
    uint64_t num;
    // Expected version, or NULL.
    const CkVersion *version;
    // Elements of a batch, or room for a page.
    CkItem *items;
    // Their number.
    size_t items_len;
    // Deadline and trace, or NULL.
    const CkCallOpt *opt;
} CkOp;

// What an operation leaves when it is ready. The host passes one filled with zeros to every `poll`.
typedef struct {
    // `sizeof(CkOut)`, set by the host.
    uint32_t struct_size;
    // `CK_DATED_*`, else 0.
    uint32_t flags;
    // Value, JSON or cursor.
    CkBuf buf;
    // Count or milliseconds.
    uint64_t num;
    // Version.
    CkVersion version;
} CkOut;

// The functions of a waker. Every one may be called from any thread.
typedef struct {
    // `sizeof(CkWakerVtable)`.
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // A second handle.
    const void *(*clone)(const void *data);
    // Wakes without ending the handle.
    void (*wake_by_ref)(const void *data);
    // Ends a handle that came from `clone`.
    void (*release)(const void *data);
} CkWakerVtable;

// Says when to poll again. Borrowed during `poll`; to keep it, `clone` it, and `release` the clone exactly once.
typedef struct {
    // Handed to the functions.
    const void *data;
    // Valid for as long as any handle.
    const CkWakerVtable *vtable;
} CkWaker;

// The table behind `CK_ID_ASYNC`. Frozen.
//
// It covers every power: a plugin that has this table and, say, `batch/1` takes `CK_OP_GET_MANY` here. A host that
// finds this table uses it for everything.
typedef struct {
    // `sizeof(CkAsyncV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Begins an operation and copies what it needs of `op`. NULL: refused, with the reason in `err`. Never waits.
    void *(*start)(void *inst, const CkOp *op, CkError *err);
    // Moves it on: `CK_PENDING`, or once its final status. Never waits. Never called again after a final status, nor
    // at the same time as itself.
    int32_t (*poll)(void *state, const CkWaker *waker, CkOut *out, CkError *err);
    // Ends it: after the final status, or before, to cancel. Called exactly once. Never waits.
    void (*drop_op)(void *state);
} CkAsyncV1;

// Services of the host, valid from `create` until `destroy` returns. Frozen.
typedef struct {
    // `sizeof(CkHostV1)`.
    uint32_t struct_size;
    // Minor version of the host.
    uint16_t abi_minor;
    // 0.
    uint16_t reserved;
    // First argument of the functions.
    void *host;
    // Takes a log line.
    void (*log)(void *host, uint32_t level, CkSlice target, CkSlice msg, const CkKv *fields, size_t fields_len);
    // Resolves a reference such as `env:NAME` or `file:/path`. `CK_OK` with the secret, else an error status with the
    // reason, in `out`.
    int32_t (*secret)(void *host, CkSlice reference, CkBuf *out);
    // The table of a host capability, or NULL.
    const void *(*query)(void *host, const uint8_t *id, size_t id_len);
} CkHostV1;

// The table behind `CK_ID_HOST_EVENT`: a store tells of changes by others. Frozen.
typedef struct {
    // `sizeof(CkHostEventV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Tells the watch numbered `watch` of a change, from any thread; `key` is empty but for `CK_EVENT_CHANGED`. Does
    // not wait. An event of a watch that the host has ended, or never began, is dropped. A kind that the host does not
    // know is taken as `CK_EVENT_EVERYTHING`.
    void (*emit)(void *host, uint64_t watch, uint32_t kind, CkSlice key);
} CkHostEventV1;

// The table behind `CK_ID_HOST_METRIC`: numbers of a plugin beside those of its host. Frozen.
typedef struct {
    // `sizeof(CkHostMetricV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // The number of the metric of that name, which is the same each time; `kind` is `CK_METRIC_*`. A name has 1 to 64 of
    // `a` to `z`, digits and `_`, with its unit last. 0: not taken, because of its name or kind, or because the instance
    // has 64 of them.
    uint64_t (*define)(void *host, uint32_t kind, CkSlice name);
    // Adds to a counter or sets a gauge. Does not wait. A number that was not given is ignored.
    void (*record)(void *host, uint64_t metric, uint64_t value);
} CkHostMetricV1;

// What the cache above an instance did so far.
typedef struct {
    // `sizeof(CkActivity)`, set by the plugin before the call.
    uint32_t struct_size;
    // `CK_ACTIVITY_*`.
    uint32_t flags;
    // Values served from the process.
    uint64_t l1_hits;
    // Values found in the store.
    uint64_t l2_hits;
    // Keys found in neither.
    uint64_t misses;
} CkActivity;

// The table behind `CK_ID_HOST_ACTIVITY`: for stores that are told of the cache above them
// with each request. Frozen.
typedef struct {
    // `sizeof(CkHostActivityV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // `CK_OK` with `out` filled, or `CK_NO` as long as no cache stands above the instance.
    int32_t (*read)(void *host, CkActivity *out);
} CkHostActivityV1;

// The table behind `CK_ID_BATCH`: several keys in one exchange. Frozen.
//
// Each function fills `status` (and `err`) of every item and returns `CK_OK`, or returns an error and nothing is known
// of any item.
typedef struct {
    // `sizeof(CkBatchV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Fills `val` of every hit.
    int32_t (*get_many)(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err);
    // Stores `val` of every item; may take them.
    int32_t (*set_many)(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err);
    // Deletes every key.
    int32_t (*delete_many)(void *inst, CkItem *items, size_t len, const CkCallOpt *opt, CkError *err);
} CkBatchV1;

// The table behind `CK_ID_TTL`: reading and renewing the time an entry has left. Frozen.
typedef struct {
    // `sizeof(CkTtlV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // `CK_OK` with milliseconds left (or `CK_TTL_NEVER`) in `out_ms`, or `CK_NO` if absent.
    int32_t (*ttl)(void *inst, CkSlice key, const CkCallOpt *opt, uint64_t *out_ms, CkError *err);
    // Gives the key a new life; `CK_NO` if absent.
    int32_t (*touch)(void *inst, CkSlice key, uint64_t ttl_ms, const CkCallOpt *opt, CkError *err);
} CkTtlV1;

// The table behind `CK_ID_LOCK`: leases across processes. Frozen.
typedef struct {
    // `sizeof(CkLockV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Takes the lease for `hold_ms`; `CK_NO` if another holds it. Never waits for the holder.
    int32_t (*lock)(void *inst, CkSlice key, CkSlice token, uint64_t hold_ms, const CkCallOpt *opt, CkError *err);
    // Gives it back; `CK_NO` if it is not held under `token`.
    int32_t (*unlock)(void *inst, CkSlice key, CkSlice token, const CkCallOpt *opt, CkError *err);
} CkLockV1;

// The table behind `CK_ID_CAS`: writes that happen only if nobody wrote in between. Frozen.
typedef struct {
    // `sizeof(CkCasV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // `CK_OK` with value and version, or `CK_NO`.
    int32_t (*get_version)(void *inst, CkSlice key, const CkCallOpt *opt, CkBuf *out, CkVersion *version, CkError *err);
    // Stores if the key has version `*expect` (NULL: is absent), else `CK_NO`.
    int32_t (*set_if)(void *inst,
                      CkSlice key,
                      CkSlice val,
                      uint64_t ttl_ms,
                      const CkVersion *expect,
                      const CkCallOpt *opt,
                      CkError *err);
} CkCasV1;

// The table behind `CK_ID_SCAN`: enumeration. Frozen.
typedef struct {
    // `sizeof(CkScanV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Fills `val` of at most `max` items, their number, and in `out_cursor` where the next page starts (empty: none).
    // `cursor` is empty at the start.
    int32_t (*next)(void *inst,
                    CkSlice prefix,
                    CkSlice cursor,
                    CkItem *items,
                    size_t max,
                    const CkCallOpt *opt,
                    size_t *out_len,
                    CkBuf *out_cursor,
                    CkError *err);
    // The value behind an item of a page, or `CK_NO`.
    int32_t (*read)(void *inst, CkSlice id, const CkCallOpt *opt, CkBuf *out, CkError *err);
} CkScanV1;

// The table behind `CK_ID_CLEAR`: removal of many entries. Frozen.
typedef struct {
    // `sizeof(CkClearV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Removes what begins with `prefix`; their number in `out_removed`.
    int32_t (*clear)(void *inst, CkSlice prefix, const CkCallOpt *opt, uint64_t *out_removed, CkError *err);
} CkClearV1;

// The table behind `CK_ID_WATCH`: telling of changes by others, through
// `CkHostEventV1`. Frozen.
//
// A watch is known by a number, which the host chooses, so that an event may come before `watch` has returned. No number
// is used twice with one instance.
typedef struct {
    // `sizeof(CkWatchV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // Begins the watch numbered `watch` over keys that begin with `prefix` (empty: all). `CK_OK` once the store has
    // confirmed: every change by another writer that happens later is told, or `CK_EVENT_LOST` is, within two seconds
    // also where a connection died without a word. What this instance writes itself is not told. Without `CK_OK` there is
    // no watch.
    int32_t (*watch)(void *inst, CkSlice prefix, uint64_t watch, const CkCallOpt *opt, CkError *err);
    // Ends it, also one that was lost. Never waits. Hosts drop events that come later.
    void (*unwatch)(void *inst, uint64_t watch);
} CkWatchV1;

// The table behind `CK_ID_FRESHNESS`: a stale window beside the life of an entry. Frozen.
typedef struct {
    // `sizeof(CkFreshnessV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // As `get`, but also returns what is stale. `out_flags`: `CK_DATED_*`; `out_fresh_ms`: milliseconds for which the
    // value may be kept elsewhere, or `CK_FRESH_UNKNOWN`; 0: it may not.
    int32_t (*get_dated)(void *inst,
                         CkSlice key,
                         const CkCallOpt *opt,
                         CkBuf *out,
                         uint32_t *out_flags,
                         uint64_t *out_fresh_ms,
                         CkError *err);
    // As `set`; for `stale_ms` (≥ 1) after its life the entry may still be handed out as stale.
    int32_t (*set_stale)(void *inst,
                         CkSlice key,
                         CkSlice val,
                         uint64_t ttl_ms,
                         uint64_t stale_ms,
                         const CkCallOpt *opt,
                         CkError *err);
} CkFreshnessV1;

// The table behind `CK_ID_CONFIG_SCHEMA`: what options `create` takes. Frozen.
typedef struct {
    // `sizeof(CkConfigSchemaV1)`.
    uint32_t struct_size;
    // 0.
    uint32_t flags;
    // A JSON Schema (2020-12), static text.
    int32_t (*schema)(CkSlice *out);
} CkConfigSchemaV1;

// What the entry function returns: a static record of 40 bytes. Frozen for ever.
typedef struct {
    // `CK_MAGIC`.
    uint64_t magic;
    // `CK_ABI_MAJOR`.
    uint16_t abi_major;
    // `CK_ABI_MINOR`.
    uint16_t abi_minor;
    // `sizeof(CkPluginV1)`.
    uint32_t struct_size;
    // Opens an instance from UTF-8 JSON options (empty: no options). `host` stays valid until `destroy` returns.
    // Serialised with `destroy`.
    int32_t (*create)(const CkHostV1 *host, CkSlice config_json, void **out, CkError *err);
    // Ends an instance that no call is using any more.
    void (*destroy)(void *inst);
    // The table of a capability, or NULL. With an instance: what it can do. With NULL: what the library could do.
    // Tables are static; the answer for one instance never changes.
    const void *(*query)(void *inst, const uint8_t *id, size_t id_len);
} CkPluginV1;

// The one exported function.
typedef const CkPluginV1 *(*CkEntryV1)(void);

// Short forms. None of them is part of the contract; all are inline, so nothing is exported.

// Borrows `len` bytes.
static inline CkSlice ck_slice(const void *ptr, size_t len)
{
    CkSlice slice;
    slice.ptr = (const uint8_t *)ptr;
    slice.len = len;
    return slice;
}

// Borrows a text with a terminating zero, without the zero.
static inline CkSlice ck_str(const char *text)
{
    return ck_slice(text, strlen(text));
}

// Whether two slices hold the same bytes.
static inline int ck_same(CkSlice a, CkSlice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

// Whether the id that `query` was asked for is `id`.
static inline int ck_id_is(const uint8_t *ptr, size_t len, const char *id)
{
    return ck_same(ck_slice(ptr, len), ck_str(id));
}

// No bytes.
static inline CkBuf ck_buf_empty(void)
{
    CkBuf buf;
    memset(&buf, 0, sizeof buf);
    return buf;
}

// Bytes that live as long as the library: there is nothing to release.
static inline CkBuf ck_buf_static(const void *ptr, size_t len)
{
    CkBuf buf = ck_buf_empty();
    buf.ptr = (const uint8_t *)ptr;
    buf.len = len;
    return buf;
}

static inline void ck_buf_free(void *owner, const uint8_t *ptr, size_t len)
{
    (void)ptr;
    (void)len;
    free(owner);
}

// Gives away bytes that came from `malloc`; `free` ends them.
static inline CkBuf ck_buf_malloc(void *ptr, size_t len)
{
    CkBuf buf = ck_buf_static(ptr, len);
    buf.owner = ptr;
    buf.release = ck_buf_free;
    return buf;
}

// Takes a buffer out of the record it stands in and leaves zeros, which is how the contract says "taken".
static inline CkBuf ck_buf_take(CkBuf *buf)
{
    CkBuf taken = *buf;
    *buf = ck_buf_empty();
    return taken;
}

// Ends the ownership of a buffer and leaves zeros.
static inline void ck_buf_release(CkBuf *buf)
{
    CkBuf taken = ck_buf_take(buf);
    if (taken.release != NULL)
        taken.release(taken.owner, taken.ptr, taken.len);
}

// Fills `err` (if there is one) with a status and a text that lives as long as the library, and returns the status.
static inline int32_t ck_fail(CkError *err, int32_t status, const char *text)
{
    if (err != NULL) {
        memset(err, 0, sizeof *err);
        err->code = status;
        err->msg = ck_buf_static(text, strlen(text));
    }
    return status;
}

#endif // CACHEKIT_PLUGIN_H
