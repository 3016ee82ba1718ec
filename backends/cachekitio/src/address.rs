//! Where a packet to an address ends up: on the internet, in a private network, or in a place where no cache is.
//!
//! What it protects: the API key and the network of the host. A URL from a configuration, or a DNS answer, must not turn this
//! client into a way into services that trust their own network (cloud metadata at 169.254.169.254 above all). Addresses
//! that carry an IPv4 address inside an IPv6 one are judged by the one inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The internet.
    Public,
    /// This machine or a private network: where one's own `cachekit serve` runs.
    Private,
    /// Link-local, unspecified, multicast, reserved, documentation: never where a cache is, so allowed by no option.
    Special,
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// The internet alone.
    Public,
    /// The internet and private networks.
    PublicAndPrivate,
    /// Private networks alone: for exchanges that are not encrypted.
    Private,
}

impl Allowed {
    /// Whether `address` may be connected to.
    pub(crate) fn takes(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => self != Self::Private,
            Reach::Private => self != Self::Public,
            Reach::Special => false,
        }
    }
}

/// Where `address` leads.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// By the IANA registry of special-purpose addresses.
fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [10, ..] | [127, ..] | [192, 168, ..] => Reach::Private,
        [172, second, ..] if (16..32).contains(&second) => Reach::Private,
        // Between a carrier and its customers; also the inside of some clouds.
        [100, second, ..] if (64..128).contains(&second) => Reach::Private,
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Reach::Special,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Special,
        [first, ..] if first >= 224 => Reach::Special,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // Mapped (::ffff:a.b.c.d), translated (::ffff:0:a.b.c.d), compatible (::a.b.c.d, deprecated), NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        // 6to4: the router's address stands in front.
        [0x2002, high, low, ..] => inner(high, low),
        // ISATAP on a public prefix: the address stands at the end.
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] if inner(high, low) != Reach::Public => {
            inner(high, low)
        }
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Teredo (servers and clients inside), benchmarks, ORCHID, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Special,
        // All that is handed out to the internet.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_where_their_registries_say() {
        for (wanted, addresses) in [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 192.167.0.1 169.253.0.1 223.255.255.255 \
              2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1 2001:200::1",
            ),
            (
                Reach::Private,
                "10.0.0.5 127.0.0.1 127.255.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 ::1 fc00::1 fd12::1 \
              ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 2002:7f00:1::1 2002:c0a8:101::1 \
              2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:10.0.0.1",
            ),
            (
                Reach::Special,
                "0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 192.0.2.1 198.18.0.1 \
              198.51.100.7 203.0.113.9 192.0.0.8 192.88.99.1 :: fe80::1 fec0::1 ff02::1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 \
              64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:a9fe:a9fe::1 2001::1 2001:db8::1 3fff::1 100::1 fe80::5efe:10.0.0.1 4000::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(reach(address.parse().unwrap()), wanted, "{address}");
            }
        }
    }

    #[test]
    fn no_option_opens_the_way_to_cloud_metadata() {
        for allowed in [Allowed::Public, Allowed::PublicAndPrivate, Allowed::Private] {
            assert!(!allowed.takes("169.254.169.254".parse().unwrap()), "{allowed:?}");
        }
        assert!(Allowed::PublicAndPrivate.takes("127.0.0.1".parse().unwrap()));
        assert!(!Allowed::Public.takes("127.0.0.1".parse().unwrap()));
        assert!(!Allowed::Private.takes("8.8.8.8".parse().unwrap()));
    }
}
