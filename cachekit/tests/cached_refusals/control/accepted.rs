//! Without a mistake: what the others are compared with.

#[cachekit::cached(ttl = "10m", namespace = "users", skip(connection))]
fn user(connection: &std::sync::Mutex<()>, id: u64) -> Result<Option<String>, String> {
    let _ = connection;
    Ok(Some(id.to_string()))
}

fn main() {
    let _: Result<bool, _> = user_invalidate_cache(1);
}
