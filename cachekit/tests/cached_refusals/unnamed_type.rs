//! A type without a name, also inside another: the key holds the names of a function's types.

trait Database {}

#[cachekit::cached(skip(database))]
fn by_value(database: impl Database, id: u64) -> u64 {
    let _ = database;
    id
}

#[cachekit::cached(skip(database))]
fn behind_a_reference(database: &impl Database, id: u64) -> u64 {
    let _ = database;
    id
}

#[cachekit::cached(key_by = id)]
fn inside_another(databases: &[Option<&impl Database>], id: u64) -> u64 {
    let _ = databases;
    id
}

fn main() {}
