//! A resolver that looks at every answer before anybody connects to it.
//!
//! What it protects: a name that was harmless when the configuration was read may lead into the network of this host
//! later (DNS rebinding), and the API key would go there. The addresses that were looked at are the ones the connection
//! is made to, so there is no second answer. One address that must not be connected to refuses the whole answer: a mixed
//! answer is how rebinding begins.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::address::Allowed;

/// Asks the system. Blocks.
pub(crate) type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Questions under way. A system resolver can hang for half a minute and cannot be called off, so no more threads than
/// these are ever lost to it.
const MAX_LOOKUPS: usize = 4;

/// Addresses of one answer that are looked at; an answer with more is refused rather than cut.
const MAX_ADDRESSES: usize = 64;

/// An answer that nobody may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsRefusal {
    #[error("the name leads to an address inside a private or special network; allow_private_host admits private ones")]
    Inside,
    #[error(
        "the name leads to a public address, and without encryption (plain_http) only private ones are connected to"
    )]
    Outside,
    #[error("the name has more than {MAX_ADDRESSES} addresses")]
    TooMany,
    #[error("the name has no address")]
    Nothing,
}

/// See the head of this module.
#[derive(Clone)]
pub(crate) struct GuardedDns {
    allowed: Allowed,
    /// The host of the proxy, which the operator named and which usually is inside.
    proxy: Option<Arc<str>>,
    lookup: Lookup,
    under_way: Arc<Semaphore>,
}

impl GuardedDns {
    pub(crate) fn new(allowed: Allowed, proxy: Option<&str>, lookup: Lookup) -> Self {
        Self { allowed, proxy: proxy.map(Arc::from), lookup, under_way: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    fn check(&self, host: &str, addresses: &[IpAddr]) -> Result<(), DnsRefusal> {
        if addresses.is_empty() {
            return Err(DnsRefusal::Nothing);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(DnsRefusal::TooMany);
        }
        let is_proxy = self.proxy.as_deref().is_some_and(|proxy| proxy.eq_ignore_ascii_case(host));
        if is_proxy || addresses.iter().all(|address| self.allowed.takes(*address)) {
            return Ok(());
        }
        Err(if self.allowed == Allowed::Private { DnsRefusal::Outside } else { DnsRefusal::Inside })
    }
}

/// The system's resolver.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

impl Resolve for GuardedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let host: Arc<str> = name.as_str().into();
            // Moved into the thread, so that a question whose caller left still counts.
            let permit = Arc::clone(&dns.under_way).acquire_owned().await?;
            let (lookup, asked) = (Arc::clone(&dns.lookup), Arc::clone(&host));
            let addresses = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                lookup(&asked)
            })
            .await??;
            dns.check(&host, &addresses)?;
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(allowed: Allowed, proxy: Option<&str>, addresses: &[&str]) -> Result<(), DnsRefusal> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        GuardedDns::new(allowed, proxy, system_lookup()).check("cache.example", &addresses)
    }

    #[test]
    fn one_inside_address_refuses_the_whole_answer() {
        assert_eq!(answer(Allowed::Public, None, &["8.8.8.8"]), Ok(()));
        assert_eq!(answer(Allowed::Public, None, &["8.8.8.8", "10.0.0.1"]), Err(DnsRefusal::Inside));
        assert_eq!(answer(Allowed::PublicAndPrivate, None, &["8.8.8.8", "10.0.0.1"]), Ok(()));
        assert_eq!(answer(Allowed::PublicAndPrivate, None, &["169.254.169.254"]), Err(DnsRefusal::Inside));
        assert_eq!(answer(Allowed::Private, None, &["127.0.0.1", "8.8.8.8"]), Err(DnsRefusal::Outside));
        assert_eq!(answer(Allowed::Public, None, &[]), Err(DnsRefusal::Nothing));
        assert_eq!(answer(Allowed::Public, None, &["8.8.8.8"; 65]), Err(DnsRefusal::TooMany));
    }

    #[test]
    fn the_proxy_may_be_inside_and_nobody_else() {
        assert_eq!(answer(Allowed::Public, Some("CACHE.example"), &["10.0.0.1"]), Ok(()));
        assert_eq!(answer(Allowed::Public, Some("proxy.example"), &["10.0.0.1"]), Err(DnsRefusal::Inside));
    }
}
