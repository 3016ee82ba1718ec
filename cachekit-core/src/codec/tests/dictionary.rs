//! Dictionaries: what they save, and that nothing is expanded with a wrong one.
//!
//! Dictionaries here are made by zstd's trainer, from a corpus that is the same on every machine.

use std::sync::{Arc, Mutex};

use super::super::dictionary::{Dictionaries, MAX_DICTIONARY_BYTES};
use super::*;
use crate::codec::{Dictionary, DictionaryError, DictionaryId};

/// What a service caches: records of one shape, a few hundred bytes to 2 KiB as MessagePack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    user_id: u64,
    display_name: String,
    email: String,
    country: String,
    plan: String,
    created_at: String,
    last_seen: String,
    permissions: Vec<String>,
    preferences: BTreeMap<String, String>,
    recent_orders: Vec<Order>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    order_id: String,
    status: String,
    currency: String,
    amount_cents: u64,
    placed_at: String,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }

    fn moment(&mut self) -> String {
        let (day, hour, minute) = (self.roll(28) + 1, self.roll(24), self.roll(60));
        format!("2026-{:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", self.roll(12) + 1, self.roll(60))
    }
}

pub(crate) fn profiles(count: u64, seed: u64) -> Vec<Profile> {
    const FIRST: &[&str] =
        &["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Leslie", "Tony", "Frances"];
    const LAST: &[&str] =
        &["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Perlman", "Lamport", "Hoare"];
    const MAY: &[&str] =
        &["orders:read", "orders:write", "users:read", "billing:read", "reports:export", "admin:audit"];
    let mut dice = Dice(seed);
    (0..count)
        .map(|number| {
            let (first, last) = (dice.one(FIRST), dice.one(LAST));
            let user_id = 1_000_000 + dice.roll(9_000_000);
            Profile {
                user_id,
                display_name: format!("{first} {last}"),
                email: format!("{}.{}{number}@example.org", first.to_lowercase(), last.to_lowercase()),
                country: dice.one(&["DE", "PL", "FR", "US", "JP", "BR"]).into(),
                plan: dice.one(&["free", "team", "business", "enterprise"]).into(),
                created_at: dice.moment(),
                last_seen: dice.moment(),
                permissions: MAY.iter().filter(|_| dice.roll(2) == 0).map(|may| (*may).into()).collect(),
                preferences: [
                    ("theme", dice.one(&["dark", "light", "system"])),
                    ("language", dice.one(&["en-US", "de-DE", "pl-PL", "fr-FR"])),
                    ("email_digest", dice.one(&["daily", "weekly", "never"])),
                    ("timezone", dice.one(&["Europe/Berlin", "Europe/Warsaw", "America/New_York"])),
                ]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
                recent_orders: (0..dice.roll(10))
                    .map(|_| Order {
                        order_id: format!("ord_{:012x}", dice.roll(1 << 48)),
                        status: dice.one(&["delivered", "shipped", "processing", "cancelled"]).into(),
                        currency: dice.one(&["EUR", "USD", "PLN"]).into(),
                        amount_cents: dice.roll(50_000),
                        placed_at: dice.moment(),
                    })
                    .collect(),
            }
        })
        .collect()
}

/// Trained on other profiles than those it is measured on. Once for each seed: the trainer takes its time.
pub(crate) fn trained(seed: u64) -> Arc<Dictionary> {
    static TRAINED: Mutex<BTreeMap<u64, Arc<Dictionary>>> = Mutex::new(BTreeMap::new());
    let mut trained = TRAINED.lock().unwrap();
    Arc::clone(trained.entry(seed).or_insert_with(|| {
        let plain = codec(Compression::None);
        let payload = |profile: &Profile| {
            let stored = plain.encode(&entry(), profile).unwrap();
            plain.open(&stored, KEY, NOW).unwrap().payload().unwrap()
        };
        let samples: Vec<Bytes> = profiles(500, seed).iter().map(payload).collect();
        Arc::new(Dictionary::new(zstd::dict::from_samples(&samples, 16 << 10).unwrap()).unwrap())
    }))
}

pub(crate) fn writer(dictionary: &Arc<Dictionary>) -> Codec {
    let dictionaries = Dictionaries::for_writing(Arc::clone(dictionary));
    dictionaries.set_ready(true);
    Codec { dictionaries: Arc::new(dictionaries), ..Codec::default() }
}

#[test]
fn small_values_become_at_least_one_and_a_half_times_smaller() {
    let dictionary = trained(1);
    // Against what the cache does by default, and against zstd on every value however small.
    let (with, default, eager) = (writer(&dictionary), Codec::default(), codec(ZSTD));
    let prefix = HEADER_LEN + KEY.len();
    let (mut small, mut sizes, mut whole) = (0, [0; 3], [0; 3]);
    for profile in profiles(400, 0xface) {
        let stored = [&with, &default, &eager].map(|codec| codec.encode(&entry(), &profile).unwrap());
        assert_eq!(with.open(&stored[0], KEY, NOW).unwrap().decode::<Profile>().unwrap(), profile);
        if Envelope::parse(&stored[1]).unwrap().payload_len() > 2 << 10 {
            continue;
        }
        small += 1;
        for (at, stored) in stored.iter().enumerate() {
            sizes[at] += stored.len() - prefix;
            whole[at] += stored.len();
        }
        assert_eq!(Envelope::parse(&stored[0]).unwrap().dictionary(), Some(dictionary.id()));
    }
    println!("{small} values: payloads {sizes:?}, entries {whole:?} bytes (dictionary, default, zstd always)");
    assert!(small > 300);
    assert!(sizes[0] * 3 <= sizes[1] * 2, "{sizes:?}");
    assert!(sizes[0] * 3 <= sizes[2] * 2, "{sizes:?}");
}

#[test]
fn an_entry_whose_dictionary_is_not_at_hand_is_refused_as_such() {
    let dictionary = trained(1);
    let stored = writer(&dictionary).encode(&entry(), &profiles(1, 9)[0]).unwrap();
    let reader = Codec::default();
    assert_eq!(reader.open(&stored, KEY, NOW).unwrap_err(), Refusal::Dictionary);
    assert_eq!(reader.inspect(&stored, NOW).unwrap().verdict, Err(Refusal::Dictionary));
    // It keeps its life without it: a touch reads no value.
    let later = |times| Times { expires_ms: NOW + 90_000, ..times };
    let touched = reader.retime(&stored, KEY, NOW, later).unwrap();
    reader.dictionaries.add(Arc::clone(&dictionary));
    for stored in [stored, touched] {
        assert_eq!(reader.open(&stored, KEY, NOW).unwrap().decode::<Profile>().unwrap(), profiles(1, 9)[0]);
    }
}

#[test]
fn two_dictionaries_live_side_by_side_and_each_entry_finds_its_own() {
    let (old, new) = (trained(1), trained(2));
    assert_ne!(old.id(), new.id());
    let profile = &profiles(1, 3)[0];
    let written_before = writer(&old).encode(&entry(), profile).unwrap();
    let codec = writer(&new);
    codec.dictionaries.add(Arc::clone(&old));
    let written_now = codec.encode(&entry(), profile).unwrap();
    assert_eq!(Envelope::parse(&written_now).unwrap().dictionary(), Some(new.id()));
    for stored in [written_before, written_now] {
        assert_eq!(&codec.open(&stored, KEY, NOW).unwrap().decode::<Profile>().unwrap(), profile);
    }
}

#[test]
fn the_number_of_dictionaries_at_hand_is_bounded() {
    let codec = Codec::default();
    let content = trained(1).content().clone();
    // The end of a dictionary is text that zstd copies from: any bytes do.
    let nth = |n: u8| {
        let mut content = content.to_vec();
        *content.last_mut().unwrap() = n;
        Arc::new(Dictionary::new(content).unwrap())
    };
    let all: Vec<_> = (0..40).map(nth).collect();
    all.iter().for_each(|dictionary| codec.dictionaries.add(Arc::clone(dictionary)));
    let known = all.iter().filter(|dictionary| codec.dictionaries.find(dictionary.id()).is_some()).count();
    assert_eq!(known, 16);
    assert!(codec.dictionaries.find(all[39].id()).is_some());
}

#[test]
fn only_small_payloads_use_the_dictionary_and_only_once_readers_can_find_it() {
    let dictionary = trained(1);
    let codec = writer(&dictionary);
    let id_of = |stored: Bytes| Envelope::parse(&stored).unwrap().dictionary();
    let text = |len: usize| "orders:read orders:write users:read ".repeat(1_000)[..len].to_owned().into_bytes();
    for (len, used) in [(63, false), (64, true), (16 << 10, true), ((16 << 10) + 1, false)] {
        let stored = codec.encode_bytes(&entry(), &text(len)).unwrap();
        assert_eq!(id_of(stored.clone()).is_some(), used, "{len}");
        assert_eq!(codec.open(&stored, KEY, NOW).unwrap().bytes().unwrap(), text(len));
    }
    // What it does not make smaller is stored as without it.
    assert_eq!(id_of(codec.encode_bytes(&entry(), &noise(300)).unwrap()), None);
    codec.dictionaries.set_ready(false);
    assert_eq!(id_of(codec.encode_bytes(&entry(), &text(500)).unwrap()), None);
}

#[test]
fn wrong_content_under_a_right_name_is_caught() {
    let dictionary = trained(1);
    let mut altered = dictionary.content().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let found = DictionaryId::of(&altered);
    let refused = Dictionary::named(dictionary.id(), altered.clone()).unwrap_err();
    assert_eq!(refused, DictionaryError::WrongContent { asked: dictionary.id(), found });
    // The control: without the name nothing would catch it.
    assert!(Dictionary::new(altered).is_ok());
    assert!(Dictionary::named(dictionary.id(), dictionary.content().clone()).is_ok());
}

#[test]
fn what_is_no_dictionary_is_refused() {
    let good = trained(1).content().to_vec();
    assert_eq!(Dictionary::new(&b"{\"json\": true}"[..]).unwrap_err(), DictionaryError::Format);
    assert_eq!(Dictionary::new(&b""[..]).unwrap_err(), DictionaryError::Format);
    assert_eq!(Dictionary::new(good[..20].to_vec()).unwrap_err(), DictionaryError::Format);
    let mut damaged = good.clone();
    damaged[8..40].fill(0xff);
    assert_eq!(Dictionary::new(damaged).unwrap_err(), DictionaryError::Format);
    let large = [good, vec![b'x'; MAX_DICTIONARY_BYTES]].concat();
    assert_eq!(Dictionary::new(large.clone()).unwrap_err(), DictionaryError::TooLarge { len: large.len() });
    for wrong in ["", "0a1b2c3", "0a1b2c3d4", "0x1b2c3d", "00000000", "+a1b2c3d"] {
        assert_eq!(wrong.parse::<DictionaryId>(), Err(DictionaryError::Id), "{wrong}");
    }
}

#[test]
fn bombs_are_refused_with_a_dictionary_as_without() {
    let dictionary = trained(1);
    let codec = writer(&dictionary);
    let stored = codec.encode_bytes(&entry(), &b"orders:read ".repeat(100)).unwrap();
    assert_eq!(Envelope::parse(&stored).unwrap().dictionary(), Some(dictionary.id()));
    let claim = |len: u64| {
        let mut forged = stored.to_vec();
        forged[72..80].copy_from_slice(&len.to_le_bytes());
        super::super::envelope::set_checksum(&mut forged);
        codec.open(&forged.into(), KEY, NOW).and_then(|opened| opened.bytes())
    };
    assert!(claim(1_200).is_ok());
    assert_eq!(claim(1_201), Err(Refusal::Corrupt));
    assert_eq!(claim(1_199), Err(Refusal::Corrupt));
    // Within `max_value`, but more than so few bytes can honestly hold: refused before it is allocated.
    assert_eq!(claim(90 << 20), Err(Refusal::TooLarge));
    assert_eq!(claim(u64::MAX), Err(Refusal::TooLarge));
}

#[test]
fn an_id_beside_another_compressor_is_damage() {
    let dictionary = trained(1);
    let codec = writer(&dictionary);
    let mut forged = codec.encode_bytes(&entry(), &noise(300)).unwrap().to_vec();
    forged[20..24].copy_from_slice(&dictionary.id().as_u32().to_le_bytes());
    super::super::envelope::set_checksum(&mut forged);
    assert_eq!(codec.open(&forged.into(), KEY, NOW).unwrap_err(), Refusal::Corrupt);
}

#[test]
fn contexts_are_shared_by_threads() {
    let dictionary = trained(1);
    let codec = writer(&dictionary);
    std::thread::scope(|scope| {
        for seed in 1..7 {
            let codec = &codec;
            scope.spawn(move || {
                for profile in profiles(40, seed) {
                    let stored = codec.encode(&entry(), &profile).unwrap();
                    assert_eq!(codec.open(&stored, KEY, NOW).unwrap().decode::<Profile>().unwrap(), profile);
                }
            });
        }
    });
}

#[test]
fn a_dictionary_shows_its_name_and_not_its_content() {
    let dictionary = trained(1);
    let shown = format!("{dictionary:?} {:?}", writer(&dictionary));
    assert!(shown.contains(&dictionary.id().to_string()) && !shown.contains("orders"), "{shown}");
}
