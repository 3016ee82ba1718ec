//! The store: bytes under keys, each with an end, in a bounded amount of memory. It knows nothing of the contract.
//!
//! An entry is counted: the store holds it, and so does everybody who was given its value. Whoever lets go last frees it.

const std = @import("std");

pub const max_key = 1024;
pub const max_value = 1 << 20;
pub const never = std.math.maxInt(u64);

const allocator = std.heap.c_allocator;

pub const Entry = struct {
    holders: std.atomic.Value(usize),
    ends_ns: u64,
    /// The key, then the value.
    bytes: []u8,
    key_len: usize,

    fn new(entry_key: []const u8, entry_value: []const u8, ends_ns: u64) !*Entry {
        const entry = try allocator.create(Entry);
        errdefer allocator.destroy(entry);
        const bytes = try allocator.alloc(u8, entry_key.len + entry_value.len);
        @memcpy(bytes[0..entry_key.len], entry_key);
        @memcpy(bytes[entry_key.len..], entry_value);
        entry.* = .{ .holders = .init(1), .ends_ns = ends_ns, .bytes = bytes, .key_len = entry_key.len };
        return entry;
    }

    fn key(self: *const Entry) []const u8 {
        return self.bytes[0..self.key_len];
    }

    pub fn value(self: *const Entry) []const u8 {
        return self.bytes[self.key_len..];
    }

    fn cost(self: *const Entry) u64 {
        return @sizeOf(Entry) + self.bytes.len + 64; // and its place in the map
    }

    pub fn release(self: *Entry) void {
        if (self.holders.fetchSub(1, .acq_rel) == 1) {
            allocator.free(self.bytes);
            allocator.destroy(self);
        }
    }
};

/// The mutex of libc: the standard library's own wants an event loop to be named, and a host has none to name.
const Mutex = struct {
    inner: std.c.pthread_mutex_t = std.c.PTHREAD_MUTEX_INITIALIZER,

    fn lock(self: *Mutex) void {
        _ = std.c.pthread_mutex_lock(&self.inner);
    }

    fn unlock(self: *Mutex) void {
        _ = std.c.pthread_mutex_unlock(&self.inner);
    }
};

pub const Store = struct {
    max_bytes: u64,
    mutex: Mutex = .{},
    used_bytes: u64 = 0,
    writes: usize = 0,
    entries: std.StringArrayHashMapUnmanaged(*Entry) = .empty,

    pub fn new(max_bytes: u64) !*Store {
        const store = try allocator.create(Store);
        store.* = .{ .max_bytes = max_bytes };
        return store;
    }

    pub fn destroy(self: *Store) void {
        _ = self.clear("");
        self.entries.deinit(allocator);
        allocator.destroy(self);
    }

    /// The entry, held for the caller, unless its life is over.
    pub fn get(self: *Store, key: []const u8, now_ns: u64) ?*Entry {
        self.mutex.lock();
        defer self.mutex.unlock();
        const entry = self.entries.get(key) orelse return null;
        if (entry.ends_ns <= now_ns) return null;
        _ = entry.holders.fetchAdd(1, .monotonic);
        return entry;
    }

    pub fn set(self: *Store, key: []const u8, value: []const u8, ends_ns: u64) !void {
        const entry = try Entry.new(key, value, ends_ns);
        errdefer entry.release();
        self.mutex.lock();
        defer self.mutex.unlock();
        try self.entries.ensureUnusedCapacity(allocator, 1);
        if (self.entries.getIndex(key)) |at| self.removeAt(at);
        // A cache may lose entries, it may not grow for ever. Which one goes is as good as chance.
        while (self.entries.count() > 0 and self.used_bytes + entry.cost() > self.max_bytes) {
            self.writes +%= 1;
            self.removeAt(self.writes *% 0x9e3779b97f4a7c15 % self.entries.count());
        }
        self.entries.putAssumeCapacityNoClobber(entry.key(), entry);
        self.used_bytes += entry.cost();
    }

    pub fn delete(self: *Store, key: []const u8, now_ns: u64) bool {
        self.mutex.lock();
        defer self.mutex.unlock();
        const at = self.entries.getIndex(key) orelse return false;
        const lives = self.entries.values()[at].ends_ns > now_ns;
        self.removeAt(at);
        return lives;
    }

    /// Removes what begins with `prefix` and counts it.
    pub fn clear(self: *Store, prefix: []const u8) u64 {
        self.mutex.lock();
        defer self.mutex.unlock();
        var removed: u64 = 0;
        // From the end, because the last one takes the place of one that goes.
        var at = self.entries.count();
        while (at > 0) {
            at -= 1;
            if (std.mem.startsWith(u8, self.entries.keys()[at], prefix)) {
                self.removeAt(at);
                removed += 1;
            }
        }
        return removed;
    }

    pub fn count(self: *Store) usize {
        self.mutex.lock();
        defer self.mutex.unlock();
        return self.entries.count();
    }

    fn removeAt(self: *Store, at: usize) void {
        const entry = self.entries.values()[at];
        self.used_bytes -= entry.cost();
        // The key in the map is the entry's own, so the entry goes last.
        self.entries.swapRemoveAt(at);
        entry.release();
    }
};
