//! A session store: who reads Redis, or writes to it, learns no session and forges none; sessions live as long as they are
//! used; a master key is rotated and nobody is signed out; and who signs out is signed out on every server at once.
//!
//! `CACHEKIT_REDIS_URL=redis://localhost:6379/0 cargo run --example secure_sessions`
//!
//! Two servers are two caches here, each with its own connection and its own memory. The clock is one that is told when time
//! passes; a program leaves `.clock(…)` away.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit::clock::ManualClock;
use cachekit::codec::Refusal;
use cachekit::config::{Config, Environment, Sources};
use cachekit::plugin::{Backend, Cx, Deadline, Key, Ttl};
use cachekit::{Cache, Error, SetOptions};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn std::error::Error>;

const LIFE: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Session {
    user: String,
    is_admin: bool,
}

/// The sessions as one server sees them.
struct Sessions(Cache);

impl Sessions {
    /// From the configuration that lies in `dir`.
    fn open(dir: &Path, clock: &Arc<ManualClock>) -> Result<Self, Failure> {
        let environment = Environment::from_vars(std::env::vars_os());
        let file = Some(dir.join("cachekit.toml"));
        let config = Config::resolve(&Sources { file, environment, ..Sources::default() })?;
        Ok(Self(cachekit::builder(&config)?.clock(Arc::<ManualClock>::clone(clock)).build()?))
    }

    /// The token goes to the browser. It is the key, so the store gets a hash of it: whoever lists the store signs in as
    /// nobody. The tag is hashed as well.
    async fn sign_in(&self, session: &Session) -> Result<String, Failure> {
        let token = random_hex()?;
        let options = SetOptions::default().with_ttl(LIFE).with_tag(format!("user:{}", session.user));
        self.0.set_with(&token, session, options).await?;
        Ok(token)
    }

    /// Whose request this is. A get gives a session its whole life again once a tenth of it has gone. What somebody has
    /// tampered with is an error and not a missing session, so that it can be told apart and be looked into.
    async fn whose(&self, token: &str) -> Result<Option<Session>, Error> {
        Ok(self.0.get::<Session>(token).await?.map(|session| (*session).clone()))
    }

    async fn sign_out(&self, token: &str) -> Result<bool, Error> {
        self.0.delete(token).await
    }

    /// From all devices, without knowing which there are.
    async fn sign_out_everywhere(&self, user: &str) -> Result<(), Error> {
        self.0.invalidate_tag(format!("user:{user}")).await
    }
}

/// Somebody with the password of Redis and without the keys.
struct Intruder(Arc<dyn Backend>);

impl Intruder {
    async fn keys(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let scan = self.0.scan().ok_or("Redis lists its keys")?;
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = scan.next(b"ck:", cursor.as_deref(), 100, &soon()).await?;
            keys.extend(page.items.iter().map(|key| key.to_vec()));
            cursor = page.next;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn read(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.get(Key::from_wire(key), &soon()).await?.ok_or("it has just been listed")?.to_vec())
    }

    async fn write(&self, key: &[u8], bytes: Vec<u8>) -> Result<(), Failure> {
        Ok(self.0.set(Key::from_wire(key), bytes.into(), Ttl::Never, &soon()).await?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let (dir, clock) = (tempfile::tempdir()?, Arc::new(ManualClock::new()));
    let dir = dir.path();
    fs::write(dir.join("master-key"), random_hex()?)?;
    fs::write(dir.join("name-key"), random_hex()?)?;
    configure(dir, "")?;
    let (one, two) = (Sessions::open(dir, &clock)?, Sessions::open(dir, &clock)?);
    let ada = Session { user: "ada.lovelace".into(), is_admin: true };
    let grace = Session { user: "grace".into(), is_admin: false };

    // Signed in on one server is signed in on the other.
    let (of_ada, of_grace) = (one.sign_in(&ada).await?, two.sign_in(&grace).await?);
    assert_eq!(two.whose(&of_ada).await?, Some(ada.clone()));
    assert_eq!(one.whose(&of_grace).await?, Some(grace.clone()));
    assert_eq!(one.whose(&random_hex()?).await?, None, "a guess");

    an_intruder_learns_nothing_and_forges_nothing(dir, &clock, &one, &of_ada, &of_grace).await?;
    let of_ada = one.sign_in(&ada).await?;
    let of_grace = one.sign_in(&grace).await?;
    sessions_live_as_long_as_they_are_used(&clock, &one, &two, &of_ada, &of_grace).await?;
    a_rotation_signs_nobody_out(dir, &clock, &ada, &of_ada).await?;

    // Signed out is signed out, also where the session is in the memory of another server.
    let (one, two) = (Sessions::open(dir, &clock)?, Sessions::open(dir, &clock)?);
    assert_eq!(two.whose(&of_ada).await?, Some(ada.clone()));
    until("Redis tells of changes", async || Ok(two.0.is_coherent())).await?;
    assert_eq!(two.whose(&of_ada).await?, Some(ada.clone()));
    assert!(one.sign_out(&of_ada).await?);
    assert_eq!(one.whose(&of_ada).await?, None, "at once where she signed out");
    let after =
        until("Ada is signed out on the other server", async || Ok(two.whose(&of_ada).await?.is_none())).await?;
    println!("signed out, {after:?} later on the other server as well");

    // From the telephone and the laptop, by one write; Grace stays.
    let (telephone, laptop) = (one.sign_in(&ada).await?, two.sign_in(&ada).await?);
    let of_grace = two.sign_in(&grace).await?;
    assert!(two.whose(&telephone).await?.is_some() && two.whose(&laptop).await?.is_some());
    one.sign_out_everywhere("ada.lovelace").await?;
    assert!(one.whose(&telephone).await?.is_none() && one.whose(&laptop).await?.is_none());
    let is_out = async || Ok(two.whose(&telephone).await?.is_none() && two.whose(&laptop).await?.is_none());
    until("Ada is signed out of both devices on the other server", is_out).await?;
    assert_eq!(one.whose(&of_grace).await?, Some(grace));
    println!("signed out of all devices");
    Ok(())
}

/// What lies in the store, and what becomes of it when somebody changes it.
async fn an_intruder_learns_nothing_and_forges_nothing(
    dir: &Path,
    clock: &Arc<ManualClock>,
    one: &Sessions,
    of_ada: &str,
    of_grace: &str,
) -> Result<(), Failure> {
    let url = std::env::var("CACHEKIT_REDIS_URL")?;
    let intruder = Intruder(cachekit::backend(&url)?);
    for key in intruder.keys().await? {
        let entry = intruder.read(&key).await?;
        for secret in ["lovelace", "grace", "user:", of_ada, of_grace] {
            let secret = secret.as_bytes();
            let shows = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!shows(&key) && !shows(&entry), "the store shows a secret");
        }
    }
    let ada_is_at = one.0.wire_key(of_ada)?.as_bytes().to_vec();
    let grace_is_at = one.0.wire_key(of_grace)?.as_bytes().to_vec();

    // One bit, anywhere; another's session in the place of one's own; and a session that is not encrypted at all.
    let of_grace_before = intruder.read(&grace_is_at).await?;
    let mut flipped = of_grace_before.clone();
    let last = flipped.len() - 20;
    flipped[last] ^= 1;
    let planted = {
        let store = cachekit::backend(&url)?;
        let careless = Cache::builder().backend(store).namespace("sessions").clock(Arc::<ManualClock>::clone(clock));
        let careless = careless.build()?;
        let forged = Session { user: "grace".into(), is_admin: true };
        let key = grace_is_at.strip_prefix(b"ck:sessions:").ok_or("its namespace")?;
        careless.set(key, &forged).await?;
        intruder.read(&grace_is_at).await?
    };
    let of_ada_before = intruder.read(&ada_is_at).await?;
    for (forged, refusal) in
        [(flipped, Refusal::Tampered), (of_ada_before, Refusal::Tampered), (planted, Refusal::Plaintext)]
    {
        intruder.write(&grace_is_at, forged).await?;
        let server = Sessions::open(dir, clock)?;
        let refused = server.whose(of_grace).await;
        assert!(matches!(&refused, Err(Error::Refused(why)) if *why == refusal), "{refused:?}");
        assert_eq!(server.0.stats().refused.values().sum::<u64>(), 1, "for whoever watches over it");
    }
    assert!(one.sign_out(of_grace).await?, "who signs out needs no look at what is there");
    println!("tampering is refused, and counted");
    Ok(())
}

/// Half an hour from the last request on, wherever that was.
async fn sessions_live_as_long_as_they_are_used(
    clock: &ManualClock,
    one: &Sessions,
    two: &Sessions,
    of_ada: &str,
    of_grace: &str,
) -> Result<(), Failure> {
    for server in [one, two, one] {
        clock.advance(LIFE * 2 / 3);
        let extended = server.0.stats().lives_extended;
        assert!(server.whose(of_ada).await?.is_some(), "she was here twenty minutes ago");
        // The answer does not wait for it.
        until("the session is extended", async || {
            // A change that is told meanwhile leaves it to the next request.
            Ok(server.whose(of_ada).await?.is_some() && server.0.stats().lives_extended > extended)
        })
        .await?;
    }
    assert_eq!(one.whose(of_grace).await?, None, "he was not");
    println!("an hour later Ada is still signed in, and Grace is not");
    Ok(())
}

/// A new master key, in three steps; `ada` is signed in all along.
async fn a_rotation_signs_nobody_out(
    dir: &Path,
    clock: &Arc<ManualClock>,
    ada: &Session,
    of_ada: &str,
) -> Result<(), Failure> {
    fs::rename(dir.join("master-key"), dir.join("old-key"))?;
    fs::write(dir.join("master-key"), random_hex()?)?;

    // The old key still opens. What a request reads is sealed anew, under the new key: its session, and the epoch of its tag.
    let old = dir.join("old-key");
    configure(dir, &format!("previous_master_keys = [{{ \"$secret\" = \"file:{}\" }}]\nreseal = true", old.display()))?;
    let server = Sessions::open(dir, clock)?;
    clock.advance(LIFE / 3);
    assert_eq!(server.whose(of_ada).await?.as_ref(), Some(ada));
    assert!(server.0.stats().opened_by_previous_key.iter().sum::<u64>() > 0, "it is still needed");
    let sealed_anew = || server.0.stats().lives_extended + server.0.stats().entries_resealed;
    until("both are sealed anew", async || Ok(server.whose(of_ada).await?.is_some() && sealed_anew() == 2)).await?;

    // As long as a session lives later nothing is left that needs the old key, and it goes.
    configure(dir, "")?;
    fs::remove_file(old)?;
    assert_eq!(Sessions::open(dir, clock)?.whose(of_ada).await?.as_ref(), Some(ada));
    println!("the master key was rotated");
    Ok(())
}

/// What every server is configured with. Keys are named, so that the file may be seen by all.
fn configure(dir: &Path, rotation: &str) -> Result<(), Failure> {
    let text = format!(
        r#"
preset = "secure"
namespace = "sessions"

[freshness]
extend_on_get = 0.9

[encryption]
master_key = {{ "$secret" = "file:{dir}/master-key" }}
{rotation}
hash_keys = true
name_key = {{ "$secret" = "file:{dir}/name-key" }}
"#,
        dir = dir.display()
    );
    Ok(fs::write(dir.join("cachekit.toml"), text)?)
}

/// 256 bits that nobody can guess.
fn random_hex() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn soon() -> Cx<'static> {
    Cx::new(Deadline::after(Duration::from_secs(5)))
}

/// How long it took. What takes ten seconds does not happen.
async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool, Failure>) -> Result<Duration, Failure> {
    let began = Instant::now();
    while !reached().await? {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(format!("not within ten seconds: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}
