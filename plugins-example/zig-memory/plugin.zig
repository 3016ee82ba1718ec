//! The contract in Zig: every structure, id and number comes from `cachekit_plugin.h`, translated by `make`.
//!
//! A value leaves as a CkBuf whose owner is the entry that holds it, so a get copies nothing, and the bytes outlive their key and the
//! instance. The library is built without Zig's safety checks, because a check that fails ends the process, and a plugin must not.

const std = @import("std");
const ck = @import("cachekit");
const options = @import("options.zig");
const store = @import("store.zig");

const Store = store.Store;
const Entry = store.Entry;

const id = "example.zig-memory";
const version = "1.0.0";

fn storeOf(inst: ?*anyopaque) *Store {
    return @ptrCast(@alignCast(inst.?));
}

/// An empty slice may come with any pointer.
fn bytesOf(slice: ck.CkSlice) []const u8 {
    return if (slice.len == 0) "" else slice.ptr[0..slice.len];
}

fn nowNs() u64 {
    var now: std.c.timespec = undefined;
    _ = std.c.clock_gettime(.MONOTONIC, &now);
    return @as(u64, @intCast(now.sec)) * std.time.ns_per_s + @as(u64, @intCast(now.nsec));
}

/// When a life that begins now ends. One that is longer than the clock is for ever, and so is CK_TTL_NEVER.
fn endOf(ttl_ms: u64) u64 {
    const life = std.math.mul(u64, ttl_ms, std.time.ns_per_ms) catch return store.never;
    return std.math.add(u64, nowNs(), life) catch store.never;
}

// ---- backend/1

fn limits(_: ?*anyopaque, out: [*c]ck.CkLimits) callconv(.c) i32 {
    const all: ck.CkLimits = .{
        .struct_size = @sizeOf(ck.CkLimits),
        .max_key = store.max_key,
        .key_bytes = ck.CK_KEYS_ANY,
        .enumerates = ck.CK_ENUM_NO,
        .max_value = store.max_value,
        .ttl_step_ms = 1,
        .ttl_max_ms = ck.CK_TTL_NEVER,
    };
    // A host that knows a smaller record gets the part that it knows.
    const room = @min(out.*.struct_size, @sizeOf(ck.CkLimits));
    const target: [*]u8 = @ptrCast(out);
    @memcpy(target[0..room], std.mem.asBytes(&all)[0..room]);
    return ck.CK_OK;
}

fn releaseEntry(owner: ?*anyopaque, _: [*c]const u8, _: usize) callconv(.c) void {
    const entry: *Entry = @ptrCast(@alignCast(owner.?));
    entry.release();
}

fn get(inst: ?*anyopaque, key: ck.CkSlice, _: [*c]const ck.CkCallOpt, out: [*c]ck.CkBuf, _: [*c]ck.CkError) callconv(.c) i32 {
    const entry = storeOf(inst).get(bytesOf(key), nowNs()) orelse return ck.CK_NO;
    out.* = .{ .ptr = entry.value().ptr, .len = entry.value().len, .owner = entry, .release = releaseEntry };
    return ck.CK_OK;
}

fn set(inst: ?*anyopaque, key: ck.CkSlice, val: ck.CkSlice, ttl_ms: u64, _: [*c]const ck.CkCallOpt, err: [*c]ck.CkError) callconv(.c) i32 {
    if (key.len == 0 or key.len > store.max_key or val.len > store.max_value)
        return ck.ck_fail(err, ck.CK_E_TOO_LARGE, "a key has 1 to 1024 bytes, a value at most 1 MiB");
    storeOf(inst).set(bytesOf(key), bytesOf(val), endOf(ttl_ms)) catch
        return ck.ck_fail(err, ck.CK_E_TRANSIENT, "out of memory");
    return ck.CK_OK;
}

/// The store copies, so the host's buffer is left where it is, and the host releases it.
fn setOwned(inst: ?*anyopaque, key: ck.CkSlice, val: [*c]ck.CkBuf, ttl_ms: u64, opt: [*c]const ck.CkCallOpt, err: [*c]ck.CkError) callconv(.c) i32 {
    return set(inst, key, .{ .ptr = val.*.ptr, .len = val.*.len }, ttl_ms, opt, err);
}

fn deleteKey(inst: ?*anyopaque, key: ck.CkSlice, _: [*c]const ck.CkCallOpt, _: [*c]ck.CkError) callconv(.c) i32 {
    return if (storeOf(inst).delete(bytesOf(key), nowNs())) ck.CK_OK else ck.CK_NO;
}

fn exists(inst: ?*anyopaque, key: ck.CkSlice, _: [*c]const ck.CkCallOpt, _: [*c]ck.CkError) callconv(.c) i32 {
    const entry = storeOf(inst).get(bytesOf(key), nowNs()) orelse return ck.CK_NO;
    entry.release();
    return ck.CK_OK;
}

fn health(inst: ?*anyopaque, _: [*c]const ck.CkCallOpt, out: [*c]ck.CkBuf, err: [*c]ck.CkError) callconv(.c) i32 {
    const begun = nowNs();
    const count = storeOf(inst).count();
    const took = nowNs() - begun;
    const text = std.fmt.allocPrint(
        std.heap.c_allocator,
        "{{\"healthy\":true,\"latency_ms\":{d}.{d:0>6},\"backend_type\":\"zig-memory\",\"details\":{{\"entries\":{d}}}}}",
        .{ took / std.time.ns_per_ms, took % std.time.ns_per_ms, count },
    ) catch return ck.ck_fail(err, ck.CK_E_TRANSIENT, "out of memory");
    out.* = ck.ck_buf_malloc(text.ptr, text.len);
    return ck.CK_OK;
}

fn close(inst: ?*anyopaque, _: [*c]const ck.CkCallOpt, _: [*c]ck.CkError) callconv(.c) i32 {
    _ = storeOf(inst).clear("");
    return ck.CK_OK;
}

const backend: ck.CkBackendV1 = .{
    .struct_size = @sizeOf(ck.CkBackendV1),
    .flags = ck.CK_BACKEND_FAST,
    .limits = limits,
    .get = get,
    .set = set,
    .set_owned = setOwned,
    .delete_key = deleteKey,
    .exists = exists,
    .health = health,
    .close = close,
};

// ---- clear/1

fn clear(inst: ?*anyopaque, prefix: ck.CkSlice, _: [*c]const ck.CkCallOpt, out_removed: [*c]u64, _: [*c]ck.CkError) callconv(.c) i32 {
    out_removed.* = storeOf(inst).clear(bytesOf(prefix));
    return ck.CK_OK;
}

const clearing: ck.CkClearV1 = .{ .struct_size = @sizeOf(ck.CkClearV1), .clear = clear };

// ---- config-schema/1

fn schemaText(out: [*c]ck.CkSlice) callconv(.c) i32 {
    out.* = .{ .ptr = options.schema.ptr, .len = options.schema.len };
    return ck.CK_OK;
}

const config_schema: ck.CkConfigSchemaV1 = .{ .struct_size = @sizeOf(ck.CkConfigSchemaV1), .schema = schemaText };

// ---- the root

fn create(_: [*c]const ck.CkHostV1, config_json: ck.CkSlice, out: [*c]?*anyopaque, err: [*c]ck.CkError) callconv(.c) i32 {
    const given = options.parse(bytesOf(config_json), err) orelse return ck.CK_E_CONFIG;
    out.* = Store.new(given.max_bytes) catch return ck.ck_fail(err, ck.CK_E_TRANSIENT, "out of memory");
    return ck.CK_OK;
}

fn destroy(inst: ?*anyopaque) callconv(.c) void {
    if (inst != null) storeOf(inst).destroy();
}

fn query(_: ?*anyopaque, asked: [*c]const u8, asked_len: usize) callconv(.c) ?*const anyopaque {
    const name = asked[0..asked_len];
    if (std.mem.eql(u8, name, ck.CK_ID_BACKEND)) return &backend;
    if (std.mem.eql(u8, name, ck.CK_ID_CLEAR)) return &clearing;
    if (std.mem.eql(u8, name, ck.CK_ID_CONFIG_SCHEMA)) return &config_schema;
    return null;
}

const root: ck.CkPluginV1 = .{
    .magic = ck.CK_MAGIC,
    .abi_major = ck.CK_ABI_MAJOR,
    .abi_minor = ck.CK_ABI_MINOR,
    .struct_size = @sizeOf(ck.CkPluginV1),
    .create = create,
    .destroy = destroy,
    .query = query,
};

export fn cachekit_plugin_v1() callconv(.c) *const ck.CkPluginV1 {
    return &root;
}

// What hosts read without running anything of this file. A macro of the header in C; assembler has no translation.
comptime {
    const json = std.fmt.comptimePrint(
        "{{\\\"id\\\":\\\"{s}\\\",\\\"version\\\":\\\"{s}\\\",\\\"abi\\\":\\\"{d}.{d}\\\",\\\"panic\\\":\\\"unwind\\\",\\\"entry\\\":\\\"{s}\\\"}}",
        .{ id, version, ck.CK_ABI_MAJOR, ck.CK_ABI_MINOR, ck.CK_ENTRY },
    );
    asm (std.fmt.comptimePrint(
            \\.pushsection .note.cachekit,"a",%note
            \\.balign 4
            \\.4byte {d}
            \\.4byte 2f-1f
            \\.4byte {d}
            \\.asciz "{s}"
            \\.balign 4
            \\1:
            \\.ascii "{s}"
            \\.balign 4, 0x20
            \\2:
            \\.popsection
        , .{ ck.CK_NOTE_OWNER.len + 1, ck.CK_NOTE_TYPE, ck.CK_NOTE_OWNER, json }));
}
