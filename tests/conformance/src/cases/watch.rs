//! Telling of changes by others.
//!
//! Whether something was *not* told is asked after something that was: events of one key's store come in their order, so
//! nothing has to be waited for that does not come.

use cachekit_plugin::{Kind, WatchSink};

use crate::case::{Case, Failure, Power, case, ensure};
use crate::drive;
use crate::instance::{DEFAULT_LIFE, Instance};
use crate::sample::echo;
use crate::subject::Subject;
use crate::told::{Told, Watched};

pub(super) const CASES: &[Case] = &[
    case!(Watch, a_foreign_write_is_told, [Watch]),
    case!(Watch, a_watch_is_on_when_it_has_begun, [Watch]),
    case!(Watch, a_foreign_deletion_is_told, [Watch]),
    case!(Watch, every_way_to_write_is_told, [Watch], 60),
    case!(Watch, what_was_told_can_be_read, [Watch]),
    case!(Watch, own_writes_are_not_told, [Watch]),
    case!(Watch, changes_outside_the_prefix_are_not_told, [Watch]),
    case!(Watch, a_watch_that_ended_tells_nothing, [Watch]),
    case!(Watch, watches_of_one_instance_do_not_meet, [Watch]),
    case!(Watch, a_thousand_changes_at_once_are_all_told, [Watch], 120),
    case!(Watch, a_dropped_watch_request_tells_nothing, [Watch], 60),
    case!(Watch, changes_after_a_close_are_told_or_the_watch_is_lost, [Watch]),
    case!(Watch, a_watch_on_a_store_out_of_reach_is_refused, [Watch]),
];

/// Fails unless `key` was told in time.
fn told(s: &Subject, watched: &Watched, key: &[u8], what: &str) -> Result<(), Failure> {
    let patience = s.patience().operation;
    ensure!(watched.wait_for(key, patience), "{what} was not told within {patience:?}");
    ensure!(!watched.is_lost(), "a watch was lost although its store is in reach");
    Ok(())
}

/// A foreign write that is told after everything that came before it.
fn mark(s: &Subject, watched: &Watched, second: &Instance, name: &str) -> Result<(), Failure> {
    let key = s.key(name);
    second.set(&key, echo(&key))?;
    told(s, watched, &key, "a foreign write")
}

fn a_foreign_write_is_told(s: &Subject) -> Result<(), Failure> {
    let (second, key) = (s.second()?, s.key("k"));
    let watched = s.backend().watch(&s.prefix())?;
    second.set(&key, echo(&key))?;
    told(s, &watched, &key, "a foreign write of a new key")?;
    let again = s.backend().watch(&s.prefix())?;
    second.set(&key, &b"new"[..])?;
    told(s, &again, &key, "a foreign write over an old value")?;
    // Without a prefix everything is told.
    let all = s.backend().watch(b"")?;
    second.set(&key, &b"newer"[..])?;
    told(s, &all, &key, "a foreign write, to a watch without a prefix")
}

fn a_watch_is_on_when_it_has_begun(s: &Subject) -> Result<(), Failure> {
    let second = s.second()?;
    for round in 0..20 {
        let key = s.key(&format!("k{round}"));
        let watched = s.backend().watch(&key)?;
        second.set(&key, echo(&key))?;
        told(s, &watched, &key, "a foreign write right after the watch had begun")?;
    }
    Ok(())
}

fn a_foreign_deletion_is_told(s: &Subject) -> Result<(), Failure> {
    let (b, second, key) = (s.backend(), s.second()?, s.key("k"));
    b.set(&key, echo(&key))?;
    let watched = b.watch(&s.prefix())?;
    ensure!(second.delete(&key)?, "delete is false for a key that another instance wrote");
    told(s, &watched, &key, "a foreign deletion")
}

fn every_way_to_write_is_told(s: &Subject) -> Result<(), Failure> {
    let (b, second) = (s.backend(), s.second()?);
    let offers = |power: Power| power.is_offered_by(second.as_dyn());
    let written = |name: &str, way: &str, write: &dyn Fn(&[u8]) -> Result<(), Failure>| {
        let key = s.key(name);
        b.set(&key, echo(&key))?;
        let watched = b.watch(&key)?;
        write(&key)?;
        told(s, &watched, &key, &format!("a foreign {way}"))
    };
    if offers(Power::Batch) {
        written("a", "set_many", &|key| {
            second.set_many(&[(key, echo(key), DEFAULT_LIFE)])?.remove(0).map_err(Failure::from)
        })?;
        written("b", "delete_many", &|key| second.delete_many(&[key])?.remove(0).map(|_| ()).map_err(Failure::from))?;
    }
    if offers(Power::Cas) {
        written("c", "set_if", &|key| {
            let version = second.get_version(key)?.map(|(_, version)| version);
            ensure!(second.set_if(key, &b"new"[..], DEFAULT_LIFE, version)?, "set_if is false for the version seen");
            Ok(())
        })?;
    }
    if offers(Power::Freshness) {
        written("d", "set_stale", &|key| second.set_stale(key, &b"new"[..], DEFAULT_LIFE, 1000))?;
    }
    if offers(Power::Clear) {
        written("e", "clear", &|key| match second.try_clear(key)? {
            Ok(_) => Ok(()),
            // A store that cannot tell keys apart is not asked to clear everything.
            Err(error) if error.kind() == Kind::Unsupported => second.delete(key).map(|_| ()),
            Err(error) => Err(error.into()),
        })?;
    }
    Ok(())
}

fn what_was_told_can_be_read(s: &Subject) -> Result<(), Failure> {
    let (b, second, key) = (s.backend(), s.second()?, s.key("k"));
    for round in 0..50 {
        let watched = b.watch(&key)?;
        let value = format!("value {round}");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| second.set(&key, value.clone()));
            told(s, &watched, &key, "a foreign write")?;
            // Whoever forgets a key because it was told reads it anew: not what was there before.
            b.expect(&key, Some(value.as_bytes()), "right after a change was told")?;
            writer.join().map_err(|_| Failure::Refuted("the writer panicked".into()))?
        })?;
    }
    Ok(())
}

fn own_writes_are_not_told(s: &Subject) -> Result<(), Failure> {
    let (b, second) = (s.backend(), s.second()?);
    let watched = b.watch(&s.prefix())?;
    let keys: Vec<Vec<u8>> = (0..10).map(|number| s.key(&format!("k{number}"))).collect();
    for key in &keys {
        b.set(key, echo(key))?;
    }
    ensure!(b.delete(&keys[0])?, "delete is false for a key that was there");
    mark(s, &watched, &second, "mark")?;
    let named = keys.iter().filter(|key| watched.has_named(key)).count();
    ensure!(named == 0, "{named} of 10 keys that the instance wrote itself were told to it");
    Ok(())
}

fn changes_outside_the_prefix_are_not_told(s: &Subject) -> Result<(), Failure> {
    let second = s.second()?;
    let watched = s.backend().watch(&s.key("a:"))?;
    let outside: Vec<Vec<u8>> = ["b:1", "a", "A:1", "aa:1", "xa:1", ""].iter().map(|name| s.key(name)).collect();
    for key in &outside {
        second.set(key, echo(key))?;
    }
    mark(s, &watched, &second, "a:mark")?;
    let named = outside.iter().filter(|key| watched.has_named(key)).count();
    ensure!(named == 0, "{named} keys were told that do not begin with the prefix");
    Ok(())
}

fn a_watch_that_ended_tells_nothing(s: &Subject) -> Result<(), Failure> {
    let (b, second, key) = (s.backend(), s.second()?, s.key("k"));
    let mut ended = b.watch(&s.prefix())?;
    mark(s, &ended, &second, "before")?;
    ended.end();
    let told_before = ended.count();
    let witness = b.watch(&s.prefix())?;
    second.set(&key, echo(&key))?;
    mark(s, &witness, &second, "after")?;
    ensure!(ended.count() == told_before, "a watch tells after its guard was dropped");
    Ok(())
}

fn watches_of_one_instance_do_not_meet(s: &Subject) -> Result<(), Failure> {
    let (b, second) = (s.backend(), s.second()?);
    let (left, mut right, both) = (b.watch(&s.key("l:"))?, b.watch(&s.key("r:"))?, b.watch(&s.prefix())?);
    mark(s, &left, &second, "l:1")?;
    mark(s, &right, &second, "r:1")?;
    right.end();
    mark(s, &left, &second, "l:2")?;
    mark(s, &both, &second, "r:2")?;
    ensure!(!left.has_named(&s.key("r:1")), "a watch was told what belongs to another");
    Ok(())
}

fn a_thousand_changes_at_once_are_all_told(s: &Subject) -> Result<(), Failure> {
    let second = s.second()?;
    let watched = s.backend().watch(&s.prefix())?;
    let keys: Vec<Vec<u8>> = (0..1000).map(|number| s.key(&format!("k{number}"))).collect();
    for key in &keys {
        second.set(key, &b"v"[..])?;
    }
    let patience = s.patience().operation;
    if !watched.wait_for_all(&keys, patience) {
        let missing = keys.iter().filter(|key| !watched.has_named(key)).count();
        return Err(Failure::Refuted(format!("{missing} of 1000 changes were not told within {patience:?}")));
    }
    Ok(())
}

fn a_dropped_watch_request_tells_nothing(s: &Subject) -> Result<(), Failure> {
    let (b, second) = (s.backend(), s.second()?);
    let prefix = s.prefix();
    for polls in 0..8 {
        let told = std::sync::Arc::new(Told::default());
        let cx = b.cx();
        let mut request = b.watch_power()?.watch(&prefix, told.clone() as std::sync::Arc<dyn WatchSink>, &cx);
        // A guard that was given is dropped as well.
        drop(drive::poll_times(request.as_mut(), polls));
        drop(request);
        // From the moment of the drop, not from that of the next answer: a request that is still under way somewhere would have
        // ended by then.
        let dropped = Watched::of_nothing(told);
        let told_before = dropped.count();
        second.set(&s.key(&format!("change{polls}")), &b"changed"[..])?;
        let witness = b.watch(&prefix)?;
        mark(s, &witness, &second, &format!("mark{polls}"))?;
        ensure!(dropped.count() == told_before, "a watch that was dropped at poll {polls} tells of later changes");
    }
    Ok(())
}

fn changes_after_a_close_are_told_or_the_watch_is_lost(s: &Subject) -> Result<(), Failure> {
    let (second, extra, key) = (s.second()?, s.extra()?, s.key("k"));
    let watched = extra.watch(&s.prefix())?;
    extra.close()?;
    second.set(&key, echo(&key))?;
    let patience = s.patience().operation;
    ensure!(
        watched.wait_for_or_lost(&key, patience),
        "after its instance was closed a watch tells neither a change nor its end within {patience:?}"
    );
    Ok(())
}

fn a_watch_on_a_store_out_of_reach_is_refused(s: &Subject) -> Result<(), Failure> {
    let unreachable = s.unreachable()?;
    match unreachable.try_watch(&s.prefix())? {
        Ok(_) => Err(Failure::Refuted("a watch begins although the store is out of reach".into())),
        Err(error) if matches!(error.kind(), Kind::Transient | Kind::Timeout) => Ok(()),
        Err(error) => Err(Failure::Refuted(format!("an outage is neither transient nor a timeout, but: {error}"))),
    }
}
