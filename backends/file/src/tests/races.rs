//! Several threads, and several instances as if in several processes, on one directory.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::*;

/// A value that shows if it is whole: one byte repeated, its length told by that byte.
fn whole(seed: u8) -> Vec<u8> {
    vec![seed; 1 + usize::from(seed) * 97]
}

fn is_whole(value: &[u8]) -> bool {
    value.first().is_some_and(|&seed| value == whole(seed))
}

/// Runs `work` on `threads` threads that begin together, each with an instance of its own.
fn together(bench: &Bench, threads: usize, work: impl Fn(usize, &Bench) + Sync) {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        for index in 0..threads {
            let (bench, start, work) = (bench.peer(index % 2 == 0), &start, &work);
            scope.spawn(move || {
                start.wait();
                work(index, &bench);
            });
        }
    });
}

#[test]
fn readers_and_writers_of_one_key_see_whole_values_only() {
    let bench = Bench::new();
    bench.set("k", whole(1), Ttl::Never);
    together(&bench, 8, |index, bench| {
        for round in 0..200 {
            if index < 3 {
                bench.set("k", whole((1 + (index * 67 + round) % 250) as u8), Ttl::Never);
            } else {
                assert!(is_whole(&bench.get("k").expect("never deleted, so never missing")));
            }
        }
    });
    assert_eq!(bench.names().len(), 1, "no temporary file is left");
}

#[test]
fn renewals_and_reads_of_one_key_do_not_disturb_each_other() {
    let bench = Bench::new();
    bench.set("k", whole(9), secs(100));
    // Lives whose expiry differs in every byte that can differ, so that a torn one would be far off.
    let lives = [secs(100), secs(315_000_000)];
    together(&bench, 6, |index, bench| {
        for round in 0..200 {
            if index < 2 {
                assert!(bench.touch("k", lives[(index + round) % 2]));
            } else {
                assert!(is_whole(&bench.get("k").expect("renewed, so never missing")));
                let left = bench.ttl("k").unwrap().as_ms().unwrap();
                assert!([99_750, 314_999_999_750].contains(&left), "{left}");
            }
        }
    });
}

#[test]
fn of_many_conditional_writes_over_one_version_exactly_one_happens() {
    let bench = Bench::new();
    for round in 0..20 {
        let expect = bench.get_version("k").map(|(_, version)| version);
        assert_eq!(expect.is_none(), round == 0);
        let winners = AtomicUsize::new(0);
        together(&bench, 16, |index, bench| {
            if bench.set_if("k", format!("{round}.{index}"), expect) {
                winners.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(winners.into_inner(), 1, "round {round}");
    }
    assert_eq!(bench.names().len(), 1, "the losers left nothing");
}

#[test]
fn increments_by_conditional_writes_lose_none_among_plain_writes_of_other_keys() {
    let bench = Bench::new();
    bench.set("n", "0", Ttl::Never);
    together(&bench, 4, |index, bench| {
        for round in 0..25 {
            loop {
                let (value, version) = bench.get_version("n").unwrap();
                let next = std::str::from_utf8(&value).unwrap().parse::<u32>().unwrap() + 1;
                if bench.set_if("n", next.to_string(), Some(version)) {
                    break;
                }
            }
            bench.set(&format!("other {index} {round}"), "x", Ttl::Never);
        }
    });
    assert_eq!(bench.get("n").unwrap(), "100");
}

#[test]
fn a_plain_write_is_never_overwritten_by_a_conditional_one_that_did_not_see_it() {
    let bench = Bench::new();
    bench.set("k", "begin", Ttl::Never);
    // Writers leave ever larger numbers; conditional writers only append a mark to what they saw. A conditional write
    // that slipped past a plain one would bring an older number back.
    let last = AtomicUsize::new(0);
    together(&bench, 4, |index, bench| {
        for round in 1..=100 {
            if index == 0 {
                bench.set("k", format!("{round}"), Ttl::Never);
                last.store(round, Ordering::SeqCst);
            } else {
                let floor = last.load(Ordering::SeqCst);
                let (value, version) = bench.get_version("k").unwrap();
                let text = String::from_utf8(value.to_vec()).unwrap();
                let seen = text.split('+').next().unwrap().parse().unwrap_or(0);
                assert!(seen >= floor, "{seen} came back after {floor}");
                bench.set_if("k", format!("{seen}+"), Some(version));
            }
        }
    });
}

#[test]
fn an_ended_lease_is_taken_over_by_exactly_one() {
    let bench = Bench::new();
    assert!(bench.lock("k", "dead holder", 1_000));
    for round in 0..20 {
        let winners = AtomicUsize::new(0);
        together(&bench, 16, |index, bench| {
            winners.fetch_add(usize::from(bench.lock("k", &format!("{round}.{index}"), 1_000)), Ordering::Relaxed);
        });
        assert_eq!(winners.into_inner(), 0, "it is held");
        bench.hands.advance(1_000);
        let winners = AtomicUsize::new(0);
        together(&bench, 16, |index, bench| {
            winners.fetch_add(usize::from(bench.lock("k", &format!("{round}.{index}"), 1_000)), Ordering::Relaxed);
        });
        assert_eq!(winners.into_inner(), 1, "round {round}");
    }
}

#[test]
fn a_lease_that_is_given_back_and_taken_all_the_time_has_one_holder_at_a_time() {
    let bench = Bench::new();
    let inside = AtomicUsize::new(0);
    let taken = AtomicUsize::new(0);
    together(&bench, 8, |index, bench| {
        for round in 0..20 {
            let token = format!("{index}.{round}");
            while !bench.lock("k", &token, 60_000) {}
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
            taken.fetch_add(1, Ordering::Relaxed);
            inside.fetch_sub(1, Ordering::SeqCst);
            // Another's hand on the file can keep us from it for a moment.
            while !bench.unlock("k", &token) {}
        }
    });
    assert_eq!(taken.into_inner(), 160);
}

#[test]
fn a_lease_is_never_taken_in_a_file_that_was_removed_meanwhile() {
    let bench = Bench::new();
    let path = bench.dir.join(format!(".lock.{}", Name::of(key("k")).as_str()));
    for round in 0..50 {
        // Another process gives its lease back just while we wait for its hand to leave the file.
        let file = std::fs::File::create(&path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| bench.lock("k", "token", 1_000));
            (0..round * 100).for_each(|_| std::thread::yield_now());
            std::fs::remove_file(&path).unwrap();
            drop(file);
            if taking.join().unwrap() {
                assert!(path.exists(), "round {round}: a lease that nobody else can see");
                assert!(bench.unlock("k", "token"));
            }
        });
    }
}

#[test]
fn a_dead_entry_that_was_replaced_meanwhile_is_not_removed() {
    let bench = Bench::new();
    bench.set("k", "dead", Ttl::Never);
    let (store, name) = (bench.backend.store(), Name::of(key("k")));
    let handle = store.directory.handle().unwrap();
    let dead = crate::client::file_id(&handle.lstat(name.as_str()).unwrap().unwrap());
    // Kept open, so that its inode is not given to the next file.
    let _reader = std::fs::File::open(bench.path("k")).unwrap();
    bench.set("k", "fresh", Ttl::Never);
    store.bury(&handle, &name, dead);
    assert_eq!(bench.get("k").unwrap(), "fresh");
    let fresh = crate::client::file_id(&handle.lstat(name.as_str()).unwrap().unwrap());
    store.bury(&handle, &name, fresh);
    assert_eq!(bench.get("k"), None);
}

#[test]
fn a_scan_lists_everything_that_stays_while_other_entries_come_and_go() {
    let bench = Bench::new();
    let staying: Vec<_> = (0..200).map(|index| format!("stays {index}")).collect();
    for name in &staying {
        bench.set(name, name.clone(), Ttl::Never);
    }
    let done = AtomicUsize::new(0);
    together(&bench, 3, |index, bench| {
        if index == 0 {
            for _ in 0..5 {
                let (mut seen, mut cursor) = (Vec::new(), None);
                loop {
                    let page = bench.page(cursor.as_deref(), 17);
                    assert!(page.items.len() <= 17);
                    seen.extend(page.items);
                    let Some(next) = page.next else { break };
                    cursor = Some(next);
                }
                assert!(seen.is_sorted(), "each name once");
                for name in &staying {
                    assert!(seen.iter().any(|id| id == Name::of(key(name)).as_bytes()), "{name}");
                }
            }
            done.store(1, Ordering::SeqCst);
        } else {
            let mut round = 0;
            while done.load(Ordering::SeqCst) == 0 {
                let name = format!("goes {index} {}", round % 50);
                bench.set(&name, "x", Ttl::Never);
                bench.delete(&name);
                round += 1;
            }
        }
    });
}

#[test]
fn writers_of_several_processes_stay_within_the_limit_without_losing_what_is_fresh() {
    let bench = Bench::with(|config| config.with_max_entry_count(400));
    let most = AtomicUsize::new(0);
    let (written, judged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    together(&bench, 4, |index, bench| {
        for round in 0..400 {
            let name = format!("{index} {round}");
            bench.hands.advance(1);
            let before = written.fetch_add(1, Ordering::SeqCst);
            bench.set(&name, "x", Ttl::Never);
            let is_there = bench.get(&name).is_some();
            // The newest 280 stay. While this thread waited for its turn the others may have written more than that, but not
            // often: they have 1 200 to write.
            if written.load(Ordering::SeqCst) - before <= 100 {
                assert!(is_there, "{name} went at once");
                judged.fetch_add(1, Ordering::Relaxed);
            }
            if round % 20 == 0 {
                most.fetch_max(bench.names().len(), Ordering::Relaxed);
            }
        }
    });
    let judged = judged.into_inner();
    assert!(judged >= 1600 - 4 * (1200 / 100), "{judged} of 1600 judged");
    let most = most.into_inner();
    assert!((280..=440).contains(&most), "{most} entries of 400 and 10 %");
}
