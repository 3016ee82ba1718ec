//! Writers that are killed in the middle: nobody ever reads a wrong value, and what they leave lying is bounded.

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use cachekit::Cache;
use cachekit_backend_file::{FileBackend, FileConfig};
use cachekit_e2e::{Place, values};
use cachekit_plugin::{HostServices, Open};

const WRITERS: usize = 4;
const KILLS: u32 = 500;

fn writer(place: &Place, seed: u32) -> Child {
    Command::new(env!("CARGO_BIN_EXE_writer"))
        .arg(place.path().join("store"))
        .arg(seed.to_string())
        .spawn()
        .expect("the writer was built with this test")
}

fn cache(place: &Place) -> Cache {
    let backend = FileBackend::open(FileConfig::new(place.path().join("store")), HostServices::none()).unwrap();
    Cache::builder().backend(Arc::new(backend)).without_l1().build().unwrap()
}

fn litter(place: &Place) -> usize {
    let files = fs::read_dir(place.path().join("store")).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains(".tmp.")).count()
}

/// Reads everything and returns how many values were there; panics at the first wrong one.
fn check(cache: &Cache) -> u64 {
    let cache = cache.blocking();
    let mut found = 0;
    for key in 0..64 {
        if let Some(value) = cache.get_bytes(values::key(key)).unwrap() {
            assert!(values::is_right(key, &value), "a wrong value under key {key}");
            found += 1;
        }
    }
    found
}

#[test]
fn killed_writers_leave_no_wrong_value_and_little_litter() {
    let place = Place::new();
    fs::create_dir(place.path().join("store")).unwrap();
    let reader = cache(&place);
    let mut writers: Vec<Child> = (0..WRITERS as u32).map(|seed| writer(&place, seed)).collect();
    let (mut reads, mut dice) = (0, 7_u64);
    for kill in 0..KILLS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Killed after 2 to 17 ms of work: the fault itself takes time, it does not wait for anything.
        std::thread::sleep(Duration::from_millis(2 + (dice >> 60)));
        let victim = &mut writers[(dice >> 33) as usize % WRITERS];
        assert_eq!(victim.try_wait().unwrap(), None, "a writer saw a wrong value");
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = writer(&place, WRITERS as u32 + kill);
        if kill % 10 == 0 {
            reads += check(&reader);
        }
    }
    for writer in &mut writers {
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    reads += check(&reader);
    let refused = reader.stats().refused;
    let left = litter(&place);
    // A process that opens the directory and writes sweeps what nobody holds any more.
    let sweeper = cache(&place).blocking();
    std::thread::sleep(Duration::from_millis(150));
    sweeper.set("key-0", &0_u8).unwrap();
    let after_sweep = litter(&place);
    println!("{KILLS} kills, {reads} values read, refused {refused:?}, litter {left}, after a sweep {after_sweep}");
    assert!(reads > 1000, "only {reads} values were there to be read");
    assert!(refused.is_empty(), "torn entries were on disk: {refused:?}");
    assert!(left <= WRITERS + 64, "{left} temporary files");
    assert_eq!(after_sweep, 0);
}

#[test]
fn every_flipped_byte_of_an_entry_is_a_miss_or_the_same_value() {
    let place = Place::new();
    let cache = cache(&place);
    let value = values::value(3, 20_000, 5);
    cache.blocking().set_bytes(values::key(3), &value, cachekit::SetOptions::default()).unwrap();
    let entry = fs::read_dir(place.path().join("store"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.file_name().is_some_and(|name| name.len() == 32))
        .unwrap();
    let whole = fs::read(&entry).unwrap();
    let header = 14 + 88 + "ck:default:key-3".len();
    let payload = (0..1000).map(|i| header + i * (whole.len() - header) / 1000);
    let (mut misses, mut same) = (0, 0);
    for at in (0..header).chain(payload) {
        for bit in [0x01, 0x80] {
            let mut flipped = whole.clone();
            flipped[at] ^= bit;
            fs::write(&entry, &flipped).unwrap();
            match cache.blocking().get_bytes(values::key(3)).unwrap() {
                None => misses += 1,
                // The expiry in the file's header is not the entry's: the envelope inside has its own.
                Some(found) => {
                    assert_eq!(found, value, "byte {at} was flipped and a wrong value came back");
                    assert!((6..14).contains(&at), "byte {at} was flipped and nobody noticed");
                    same += 1;
                }
            }
        }
    }
    println!("{misses} misses, {same} times the same value, 0 wrong, of {} flips", 2 * (header + 1000));
    assert_eq!(misses + same, 2 * (header + 1000));
}

#[test]
fn entries_that_were_swapped_cut_or_planted_are_misses() {
    let place = Place::new();
    let cache = cache(&place);
    let blocking = cache.blocking();
    for key in [1, 2] {
        blocking.set_bytes(values::key(key), &values::value(key, 500, 9), cachekit::SetOptions::default()).unwrap();
    }
    let mut files: Vec<_> = fs::read_dir(place.path().join("store"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 32))
        .collect();
    files.sort();
    let [a, b] = files.as_slice() else { panic!("two entries are two files") };
    let (one, two) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    fs::write(a, &two).unwrap();
    fs::write(b, &one).unwrap();
    for key in [1, 2] {
        assert_eq!(blocking.get_bytes(values::key(key)).unwrap(), None);
    }
    for cut in [0, 13, 14, 60, one.len() - 1] {
        fs::write(a, &one[..cut]).unwrap();
        fs::write(b, &two[..cut]).unwrap();
        for key in [1, 2] {
            assert_eq!(blocking.get_bytes(values::key(key)).unwrap(), None, "cut to {cut}");
        }
    }
    // What another member of the family stored under our key is no entry of ours.
    let mut foreign = one[..14].to_vec();
    foreign.extend(b"\x83\xa1a\x01");
    fs::write(a, &foreign).unwrap();
    fs::write(b, &foreign).unwrap();
    for key in [1, 2] {
        assert_eq!(blocking.get_bytes(values::key(key)).unwrap(), None);
    }
    assert!(cache.stats().refused.len() >= 3, "{:?}", cache.stats().refused);
}
