//! The seven operations every backend has.

use cachekit_plugin::{Bytes, Cx, Deadline, Enumerates, Key, Operation};

use crate::case::{Case, Failure, Power, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::sample::{echo, noise};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Contract, a_value_reads_back_as_it_was_written),
    case!(Contract, a_missing_key_is_an_answer_and_no_error),
    case!(Contract, the_last_write_wins),
    case!(Contract, delete_tells_whether_there_was_something),
    case!(Contract, a_deleted_key_can_be_written_again),
    case!(Contract, exists_agrees_with_get),
    case!(Contract, an_empty_value_is_a_value),
    case!(Contract, values_keep_every_byte),
    case!(Contract, values_read_before_outlive_overwrite_and_delete),
    case!(Contract, health_names_the_store_and_its_latency),
    case!(Contract, two_instances_see_each_other),
    case!(Contract, isolated_stores_do_not_see_each_other),
    case!(Contract, closing_twice_is_no_error),
    case!(Contract, closing_one_instance_leaves_the_others_working),
    case!(Contract, a_trace_changes_no_answer),
    case!(Contract, powers_and_limits_are_the_same_whenever_asked),
];

fn a_value_reads_back_as_it_was_written(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    s.backend().set(&key, echo(&key))?;
    // Twice: reading must not use the entry up.
    s.backend().expect(&key, Some(&echo(&key)), "after a set")?;
    s.backend().expect(&key, Some(&echo(&key)), "at the second read after a set")
}

fn a_missing_key_is_an_answer_and_no_error(s: &Subject) -> Result<(), Failure> {
    let key = s.key("never-written");
    s.backend().expect(&key, None, "of a key nobody wrote")?;
    ensure!(!s.backend().exists(&key)?, "exists is true for a key nobody wrote");
    ensure!(!s.backend().delete(&key)?, "delete is true for a key nobody wrote");
    s.backend().expect(&key, None, "of a key that was only deleted")
}

fn the_last_write_wins(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    // Longer, shorter, of equal length: stores that write in place go wrong at different ones.
    for (write, len) in [100, 1000, 10, 10, 0, 5].into_iter().enumerate() {
        let value = noise(write as u64, len);
        s.backend().set(&key, value.clone())?;
        s.backend().expect(&key, Some(&value), &format!("after write {write}, of {len} bytes"))?;
    }
    Ok(())
}

fn delete_tells_whether_there_was_something(s: &Subject) -> Result<(), Failure> {
    let (key, other) = (s.key("k"), s.key("other"));
    s.backend().set(&key, echo(&key))?;
    s.backend().set(&other, echo(&other))?;
    ensure!(s.backend().delete(&key)?, "delete is false for a key that was there");
    s.backend().expect(&key, None, "after delete")?;
    ensure!(!s.backend().exists(&key)?, "exists is true after delete");
    ensure!(!s.backend().delete(&key)?, "the second delete of a key is true");
    s.backend().expect(&other, Some(&echo(&other)), "of another key after delete")
}

fn a_deleted_key_can_be_written_again(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    for round in 0..3 {
        let value = noise(round, 50);
        s.backend().set(&key, value.clone())?;
        s.backend().expect(&key, Some(&value), "after being written again")?;
        ensure!(s.backend().delete(&key)?, "delete is false for a key that was written again");
    }
    Ok(())
}

fn exists_agrees_with_get(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    for value in [Bytes::from_static(b"v"), Bytes::new()] {
        s.backend().set(&key, value)?;
        ensure!(s.backend().exists(&key)?, "exists is false for a key that was written");
    }
    s.backend().delete(&key)?;
    ensure!(!s.backend().exists(&key)?, "exists is true for a key that was deleted");
    Ok(())
}

fn an_empty_value_is_a_value(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    s.backend().set(&key, Bytes::new())?;
    s.backend().expect(&key, Some(b""), "of an empty value")?;
    ensure!(s.backend().exists(&key)?, "exists is false for an empty value");
    ensure!(s.backend().delete(&key)?, "delete is false for an empty value");
    Ok(())
}

fn values_keep_every_byte(s: &Subject) -> Result<(), Failure> {
    let all: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 12] = [
        &all,
        b"\0",
        b"\n",
        b" padded \t",
        b"ends with a line\r\n",
        b"ends with zero\0\0\0",
        b"\r\nEND\r\n",
        b"$-1\r\n",
        b"\xff\xfe\xfd not text",
        b"\x1f\x8b\x08\0 looks compressed",
        b"null",
        b"{\"json\": true}",
    ];
    for (number, value) in values.into_iter().enumerate() {
        let key = s.key(&format!("k{number}"));
        s.backend().set(&key, value.to_vec())?;
        s.backend().expect(&key, Some(value), &format!("of binary value {number}"))?;
    }
    Ok(())
}

fn values_read_before_outlive_overwrite_and_delete(s: &Subject) -> Result<(), Failure> {
    // Large enough that a store hands out its own memory instead of a copy.
    let (key, first, second) = (s.key("k"), noise(1, 200_000), noise(2, 200_000));
    let len = first.len().min(usize::try_from(s.limits().max_value).unwrap_or(usize::MAX));
    let (first, second) = (first.slice(..len), second.slice(..len));
    s.backend().set(&key, first.clone())?;
    let read_first = s.backend().get(&key)?;
    s.backend().set(&key, second.clone())?;
    let read_second = s.backend().get(&key)?;
    s.backend().delete(&key)?;
    s.backend().set(&key, noise(3, len))?;
    ensure!(read_first == Some(first), "a value changed after it was read, or was wrong when it was");
    ensure!(read_second == Some(second), "a value changed after it was read, or was wrong when it was");
    Ok(())
}

fn health_names_the_store_and_its_latency(s: &Subject) -> Result<(), Failure> {
    let health = s.backend().health()?;
    ensure!(health.healthy, "a store that answers calls itself unhealthy");
    ensure!(
        health.latency_ms.is_finite() && health.latency_ms >= 0.0,
        "latency_ms is {}, which is no time",
        health.latency_ms
    );
    ensure!(!health.backend_type.trim().is_empty(), "backend_type is empty");
    Ok(())
}

fn two_instances_see_each_other(s: &Subject) -> Result<(), Failure> {
    let (second, key) = (s.second()?, s.key("k"));
    s.backend().set(&key, echo(&key))?;
    second.expect(&key, Some(&echo(&key)), "through a second instance")?;
    second.set(&key, &b"changed"[..])?;
    s.backend().expect(&key, Some(b"changed"), "after a second instance overwrote it")?;
    ensure!(second.delete(&key)?, "a second instance finds nothing to delete");
    s.backend().expect(&key, None, "after a second instance deleted it")
}

fn isolated_stores_do_not_see_each_other(s: &Subject) -> Result<(), Failure> {
    let (first, second, key) = (s.isolated()?, s.isolated()?, s.key("k"));
    first.set(&key, echo(&key))?;
    second.expect(&key, None, "in another store")?;
    s.backend().expect(&key, None, "in another store")?;
    first.expect(&key, Some(&echo(&key)), "in the store it was written to")
}

fn closing_twice_is_no_error(s: &Subject) -> Result<(), Failure> {
    let (instance, key) = (s.extra()?, s.key("k"));
    instance.set(&key, echo(&key))?;
    instance.close()?;
    instance.close()?;
    // What an instance does after it was closed is its own affair, as long as it comes back.
    let _ = instance.try_get(&key)?;
    s.extra()?.close()
}

fn closing_one_instance_leaves_the_others_working(s: &Subject) -> Result<(), Failure> {
    let (instance, key) = (s.second()?, s.key("k"));
    instance.set(&key, echo(&key))?;
    instance.close()?;
    drop(instance);
    s.backend().expect(&key, Some(&echo(&key)), "after the instance that wrote it was closed")?;
    s.backend().set(&key, &b"changed"[..])?;
    s.backend().expect(&key, Some(b"changed"), "after another instance was closed")
}

fn a_trace_changes_no_answer(s: &Subject) -> Result<(), Failure> {
    let (backend, key) = (s.backend(), s.key("k"));
    let cx = Cx {
        deadline: Deadline::after(s.patience().operation),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };
    let wire = Key::from_wire(&key);
    backend.finish(Operation::Set, backend.as_dyn().set(wire, echo(&key), DEFAULT_LIFE, &cx))??;
    backend.expect(&key, Some(&echo(&key)), "of a value written with a trace")?;
    let found = backend.finish(Operation::Get, backend.as_dyn().get(wire, &cx))??;
    ensure!(found == Some(echo(&key)), "a read with a trace finds something else than one without");
    Ok(())
}

fn powers_and_limits_are_the_same_whenever_asked(s: &Subject) -> Result<(), Failure> {
    let (limits, key) = (s.limits(), s.key("k"));
    let offered = |instance: &crate::Instance| Power::ALL.map(|power| power.is_offered_by(instance.as_dyn()));
    let powers = offered(s.backend());
    s.backend().set(&key, echo(&key))?;
    for instance in [s.backend(), &s.extra()?] {
        ensure!(instance.limits() == limits, "limits differ between two times they were asked for");
        ensure!(offered(instance) == powers, "powers differ between two times they were asked for");
    }
    let scans = Power::Scan.is_offered_by(s.backend().as_dyn());
    ensure!(
        scans == (limits.enumerates != Enumerates::No),
        "limits say {:?}, but the power `scan` is {}",
        limits.enumerates,
        if scans { "offered" } else { "absent" }
    );
    Ok(())
}
