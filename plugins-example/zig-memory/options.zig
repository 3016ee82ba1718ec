//! The options: one number. Everything else is refused by its name.

const std = @import("std");
const ck = @import("cachekit");

const least = 2 << 20;
const most = 1 << 40;

pub const Options = struct { max_bytes: u64 = 64 << 20 };

pub const schema = std.fmt.comptimePrint(
    \\{{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,
    \\"properties":{{"max_bytes":{{"type":"integer","minimum":{d},"maximum":{d},"default":67108864,
    \\"description":"Memory for keys, values and their records, bytes. When it is full, entries make room."}}}}}}
, .{ least, most });

/// Reads `json` (empty: all defaults). On failure `err` says why.
pub fn parse(json: []const u8, err: [*c]ck.CkError) ?Options {
    var options: Options = .{};
    if (json.len == 0) return options;
    const allocator = std.heap.c_allocator;
    const parsed = std.json.parseFromSlice(std.json.Value, allocator, json, .{}) catch {
        _ = ck.ck_fail(err, ck.CK_E_CONFIG, "the options are no JSON");
        return null;
    };
    defer parsed.deinit();
    if (parsed.value != .object) {
        _ = ck.ck_fail(err, ck.CK_E_CONFIG, "the options are no JSON object");
        return null;
    }
    var fields = parsed.value.object.iterator();
    while (fields.next()) |field| {
        if (!std.mem.eql(u8, field.key_ptr.*, "max_bytes")) {
            unknown(field.key_ptr.*, err);
            return null;
        }
        const number = if (field.value_ptr.* == .integer) field.value_ptr.integer else -1;
        if (number < least or number > most) {
            _ = ck.ck_fail(err, ck.CK_E_CONFIG, std.fmt.comptimePrint("option `max_bytes`: takes a whole number from {d} to {d}", .{ least, most }));
            return null;
        }
        options.max_bytes = @intCast(number);
    }
    return options;
}

/// What the name holds is not ours: it is cut, and what is not printable becomes `?`.
fn unknown(name: []const u8, err: [*c]ck.CkError) void {
    _ = ck.ck_fail(err, ck.CK_E_CONFIG, "an option is unknown; there is `max_bytes`");
    if (err == null) return;
    var shown: [64]u8 = undefined;
    const len = @min(name.len, shown.len);
    for (name[0..len], shown[0..len]) |from, *to| to.* = if (std.ascii.isPrint(from)) from else '?';
    const text = std.fmt.allocPrint(std.heap.c_allocator, "option `{s}` is unknown; there is `max_bytes`", .{shown[0..len]}) catch return;
    err.*.msg = ck.ck_buf_malloc(text.ptr, text.len);
}
