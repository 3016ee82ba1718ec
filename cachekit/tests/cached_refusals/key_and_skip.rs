//! Two ways to say what a key is made of.

#[cachekit::cached(key = "user:{id}", skip(connection))]
fn both(connection: u32, id: u32) -> u32 {
    connection + id
}

#[cachekit::cached(key = "user:{id}", key_by = id)]
fn twice(id: u32) -> u32 {
    id
}

#[cachekit::cached(key = "user")]
fn forgotten(id: u32) -> u32 {
    id
}

#[cachekit::cached(skip(conection))]
fn skipped(connection: u32, id: u32) -> u32 {
    connection + id
}

fn main() {}
