//! Keys that share a hash, and tiers that share none.

use super::*;

#[test]
fn keys_with_the_same_hash_are_never_taken_for_each_other() {
    let f = roomy();
    let hash = KeyHash::from_raw(42);
    let kept = f.l1.insert(hash, b"alice", EPOCH, "alice's".into(), Life::FOREVER, None, 0);
    assert_eq!(kept, Inserted::Kept);
    // Negative control: the two do meet in the store, so only the comparison of keys tells them apart.
    assert!(f.l1.holds(hash));
    assert!(f.l1.get(hash, b"bob", EPOCH).is_none());
    assert!(!f.l1.remove(hash, b"bob"));
    // A prefix and an extension are other keys too: key and value are neighbours in the entry.
    assert!(f.l1.get(hash, b"alic", EPOCH).is_none());
    assert!(f.l1.get(hash, b"alicea", EPOCH).is_none());
    assert_eq!(f.l1.get(hash, b"alice", EPOCH).unwrap().stored(), b"alice's");

    let kept = f.l1.insert(hash, b"bob", EPOCH, "bob's".into(), Life::FOREVER, None, 0);
    assert_eq!(kept, Inserted::Kept);
    assert!(f.l1.get(hash, b"alice", EPOCH).is_none());
    assert_eq!(f.l1.get(hash, b"bob", EPOCH).unwrap().stored(), b"bob's");
    assert_eq!(f.assert_stats_add_up().entries, 1);
}

#[test]
fn refusing_a_key_leaves_the_other_key_of_its_hash_alone() {
    let f = fixture(L1Config::with_max_bytes(8 * 10_000));
    let hash = KeyHash::from_raw(42);
    let _ = f.l1.insert(hash, b"alice", EPOCH, "alice's".into(), Life::FOREVER, None, 0);
    let refused = f.l1.insert(hash, b"bob", EPOCH, vec![0; 10_000].into(), Life::FOREVER, None, 0);
    assert_eq!(refused, Inserted::TooLarge);
    assert_eq!(f.l1.get(hash, b"alice", EPOCH).unwrap().stored(), b"alice's");
}

#[test]
fn two_tiers_hash_differently() {
    let (a, b) = (roomy(), roomy());
    let same = (0..100u8).filter(|i| a.l1.hash(&[*i]) == b.l1.hash(&[*i])).count();
    assert_eq!(same, 0);
    assert_eq!(a.l1.hash(b"k"), a.l1.hash(b"k"));
}
