//! An argument that other languages have no form for.

#[derive(serde::Serialize, Clone)]
struct Filter;

#[cachekit::cached(interop(namespace = "users", operation = "find"))]
fn find(filter: Filter) -> u32 {
    let _ = filter;
    0
}

fn main() {}
