//! Words of `interop` that would have no effect, and namespaces that every cache refuses.

static USERS: std::sync::OnceLock<cachekit::Interop> = std::sync::OnceLock::new();
static CACHE: std::sync::OnceLock<cachekit::Cache> = std::sync::OnceLock::new();

#[cachekit::cached(cache = CACHE.get().unwrap(), interop(handle = USERS.get().unwrap(), operation = "get_user"))]
fn cache_of_its_own(n: u32) -> u32 {
    n
}

#[cachekit::cached(preset = "production", interop(handle = USERS.get().unwrap(), operation = "get_user"))]
fn preset(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "users", namespace = "people", operation = "get_user"))]
fn namespace_twice(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "users", operation = "get_user", operation = "find_user"))]
fn operation_twice(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "ns", operation = "get_user"))]
fn python(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "nsapi", operation = "get_user"))]
fn python_too(n: u32) -> u32 {
    n
}

#[cachekit::cached(interop(namespace = "ck", operation = "get_user"))]
fn own(n: u32) -> u32 {
    n
}

fn main() {}
