//! Where a Redis is, as a URL says it: one server, a cluster, or a name that sentinels know.
//!
//! Refusals describe the accepted form and never repeat what they refuse, because it may hold a password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// The accepted forms, for refusals.
pub(crate) const FORMS: &str = "redis://[user:password@]host[:port][/db], rediss://… for TLS, unix:///path/to/socket, \
     redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/master[/db]";

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What is at the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Standalone(Address),
    Cluster(Vec<Address>),
    Sentinel { sentinels: Vec<Address>, master: String },
}

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shape: Shape,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: u32,
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let refuse = |reason: &str| format!("url: {reason}; takes {FORMS}");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("there is no :// in it"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, tls) = match scheme {
            "redis" => (Kind::Standalone, false),
            "rediss" => (Kind::Standalone, true),
            "unix" | "redis+unix" => (Kind::Unix, false),
            "redis+cluster" => (Kind::Cluster, false),
            "rediss+cluster" => (Kind::Cluster, true),
            "redis+sentinel" => (Kind::Sentinel, false),
            "rediss+sentinel" => (Kind::Sentinel, true),
            _ => return Err(refuse("its scheme is unknown")),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (username, password) = match login {
            None => (None, None),
            Some(login) => {
                let (username, password) = login
                    .split_once(':')
                    .ok_or_else(|| refuse("there is a user without a password: write :password@ or user:password@"))?;
                let username = decoded(username).map_err(refuse)?;
                (Some(username).filter(|name| !name.is_empty()), Some(decoded(password).map_err(refuse)?))
            }
        };
        let mut db = None;
        let segments: Vec<&str> = path.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
        let shape = match kind {
            Kind::Unix => {
                if !hosts.is_empty() || !path.starts_with('/') || path.len() < 2 {
                    return Err(refuse("a socket is named by its absolute path, after three slashes"));
                }
                Shape::Standalone(Address::Unix(PathBuf::from(decoded(path).map_err(refuse)?)))
            }
            Kind::Standalone => {
                let [address] = &addresses(hosts, PORT).map_err(refuse)?[..] else {
                    return Err(refuse("several servers are a redis+cluster://"));
                };
                db = database(&segments).map_err(refuse)?;
                Shape::Standalone(address.clone())
            }
            Kind::Cluster => {
                db = database(&segments).map_err(refuse)?;
                Shape::Cluster(addresses(hosts, PORT).map_err(refuse)?)
            }
            Kind::Sentinel => {
                let (master, rest) = segments
                    .split_first()
                    .ok_or_else(|| refuse("the name of the master is missing after the hosts"))?;
                db = database(rest).map_err(refuse)?;
                let sentinels = addresses(hosts, SENTINEL_PORT).map_err(refuse)?;
                Shape::Sentinel { sentinels, master: decoded(master).map_err(refuse)? }
            }
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("db", number)) => {
                    let number = number.parse().map_err(|_| refuse("db is not a number"))?;
                    if db.replace(number).is_some_and(|other| other != number) {
                        return Err(refuse("it names two databases"));
                    }
                }
                _ => return Err(refuse("the only option it takes after ? is db; others are options of their own")),
            }
        }
        Ok(Self { shape, tls, username, password, db: db.unwrap_or(0) })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.shape, Shape::Cluster(_))
    }

    pub(crate) fn is_sentinel(&self) -> bool {
        matches!(self.shape, Shape::Sentinel { .. })
    }
}

enum Kind {
    Standalone,
    Unix,
    Cluster,
    Sentinel,
}

fn database(segments: &[&str]) -> Result<Option<u32>, &'static str> {
    match segments {
        [] => Ok(None),
        [db] => db.parse().map(Some).map_err(|_| "the database after the last / is not a number"),
        _ => Err("its path has too many parts"),
    }
}

fn addresses(hosts: &str, port: u16) -> Result<Vec<Address>, &'static str> {
    const PORT_FORM: &str = "a port is a number from 1 to 65535";
    hosts
        .split(',')
        .map(|host| {
            let (host, given) = if let Some(rest) = host.strip_prefix('[') {
                let (host, rest) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
                (host, rest.strip_prefix(':'))
            } else {
                host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port)))
            };
            if host.contains(':') && !hosts.contains('[') {
                return Err("an IPv6 address stands in [ ]");
            }
            let port = match given {
                None => port,
                Some(given) => given.parse().ok().filter(|port| *port != 0).ok_or(PORT_FORM)?,
            };
            let host = decoded(host)?;
            Ok(Address::Tcp { host: if host.is_empty() { "localhost".into() } else { host }, port })
        })
        .collect()
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8 after decoding")?;
    if decoded.contains('\0') {
        return Err("it holds a NUL");
    }
    Ok(decoded.into_owned())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Without user and password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.shape {
            Shape::Standalone(address @ Address::Unix(_)) => write!(f, "unix://{address}?db={}", self.db),
            Shape::Standalone(address) => write!(f, "{scheme}://{address}/{}", self.db),
            Shape::Cluster(seeds) => write!(f, "{scheme}+cluster://{}", list(seeds)),
            Shape::Sentinel { sentinels, master } => {
                write!(f, "{scheme}+sentinel://{}/{master}/{}", list(sentinels), self.db)
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn every_form_is_read() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://", "redis://localhost:6379/0"),
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://h:1/", "redis://h:1/0"),
            ("redis://h?db=3", "redis://h:6379/3"),
            ("redis://[::1]:7/2", "redis://[::1]:7/2"),
            ("rediss://u:p@h:1/2", "rediss://h:1/2"),
            ("unix:///run/redis.sock?db=4", "unix:///run/redis.sock?db=4"),
            ("unix://u:p@/run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("redis+cluster://a:1,b:2,c", "redis+cluster://a:1,b:2,c:6379"),
            ("rediss+cluster://a:1", "rediss+cluster://a:1"),
            ("redis+sentinel://a,b:2/main", "redis+sentinel://a:26379,b:2/main/0"),
            ("redis+sentinel://:p@a:1/main/5", "redis+sentinel://a:1/main/5"),
        ] {
            assert_eq!(Place::parse(url).unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn a_login_is_decoded() {
        let place = Place::parse("redis://us%3Aer:p%40ss%2F@h").unwrap();
        assert_eq!((place.username.as_deref(), place.password.as_deref()), (Some("us:er"), Some("p@ss/")));
        assert_eq!(place.shape, Shape::Standalone(tcp("h", 6379)));
        let place = Place::parse("redis://:secret@h").unwrap();
        assert_eq!((place.username, place.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn wrong_forms_are_refused_with_the_right_ones() {
        for url in [
            "redis:localhost:6379",
            "redis/localhost:6379",
            "localhost",
            "http://localhost",
            "redis://localhost:0",
            "redis://localhost:99999",
            "redis://localhost:port",
            "redis://localhost/one",
            "redis://localhost/1/2",
            "redis://localhost/1?db=2",
            "redis://localhost?timeout=2",
            "redis://a:1,b:2",
            "redis://user@localhost",
            "redis://::1",
            "redis://[::1",
            "unix://run/redis.sock",
            "unix://",
            "redis+sentinel://a:1",
            "redis+cluster://a:1/2/3",
            "redis://h%00",
        ] {
            let refusal = Place::parse(url).expect_err(url);
            assert!(refusal.starts_with("url: ") && refusal.contains("redis://[user:password@]"), "{url}: {refusal}");
        }
    }
}
