//! The contract of 1.0 is still there: every size, offset, type, constant and id that `frozen-1.0.txt` records.
//!
//! A plugin that was built against these numbers is out in the world. So nothing in the file may be changed or removed; what is
//! new is appended under a new name. `CACHEKIT_OVERWRITE=1 cargo test -p cachekit-abi --test frozen` appends what is new, and
//! refuses as long as something that was frozen moved.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

mod contract;
use contract::{Record, generator, numbers, records, texts};

/// What is said of one name: of a record, of one of its fields (`CkKv.val`), of a constant.
type Facts = BTreeMap<String, String>;

/// The facts of the source as it is, with types as the source writes them.
fn today(records: &[Record], types: &Facts) -> Facts {
    let mut facts = Facts::new();
    for Record { name, size, align, fields } in records {
        facts.insert((*name).to_owned(), format!("{size} bytes, aligned to {align}, {} fields", fields.len()));
        for (field, offset) in fields {
            let name = format!("{name}.{field}");
            let of_type = types.get(&name).map_or("?", String::as_str);
            facts.insert(name, format!("at {offset}: {of_type}"));
        }
    }
    facts.extend(numbers().into_iter().map(|(name, value)| (name.to_owned(), value.to_string())));
    facts.extend(texts().into_iter().map(|(name, text)| (name.to_owned(), format!("{text:?}"))));
    // Counts additions, so it is the one number that moves on.
    facts.remove("CK_ABI_MINOR");
    facts
}

/// The type of every public field, in one line, by `Record.field`; and that of every alias.
fn types_of(source: &generator::Source) -> Facts {
    let mut types = Facts::new();
    let (mut record, mut field) = (None::<String>, None::<(String, String)>);
    for line in source.files.iter().flat_map(|file| file.text.lines()) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            record = Some(name.to_owned());
        } else if line == "}" {
            record = None;
        }
        let Some(of) = &record else { continue };
        let line = line.trim();
        if line.starts_with("//") || line.starts_with('#') {
            continue;
        }
        if field.is_none()
            && let Some((name, rest)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':'))
        {
            field = Some((format!("{of}.{name}"), rest.trim().to_owned()));
        } else if let Some((_, so_far)) = &mut field {
            let _ = write!(so_far, " {line}");
        }
        // A field ends with a comma at the depth of its record.
        if let Some((_, text)) = &field
            && text.ends_with(',')
            && text.matches('(').count() == text.matches(')').count()
        {
            let (name, text) = field.take().unwrap_or_default();
            // However rustfmt breaks the lines.
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            types.insert(name, text.trim_end_matches(',').replace("( ", "(").replace(", )", ")"));
        }
    }
    types
}

fn parse(text: &str) -> Facts {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, fact)| (name.to_owned(), fact.to_owned())).collect()
}

/// What of the frozen facts is no longer so, each with its name and both sides.
fn moved(frozen: &Facts, today: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for (name, was) in frozen {
        match today.get(name) {
            Some(is) if is == was => {}
            Some(is) => found.push(format!("{name} moved: frozen as `{was}`, now `{is}`")),
            None => found.push(format!("{name} is gone: frozen as `{was}`")),
        }
    }
    // A field more in a record that is out in the world is no addition: plugins have the shorter one.
    for name in today.keys().filter(|name| !frozen.contains_key(*name)) {
        if let Some((record, _)) = name.split_once('.')
            && frozen.contains_key(record)
        {
            found.push(format!("{name} is new in a record that is frozen: give the need a new id with a new table"));
        }
    }
    found
}

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen-1.0.txt")
}

#[test]
fn nothing_that_is_frozen_has_moved() {
    let source = generator::Source::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let today = today(&records(), &types_of(&source));
    assert!(!today.values().any(|fact| fact.ends_with('?')), "a field's type was not found in the source");
    let committed = std::fs::read_to_string(file()).unwrap_or_default();
    let frozen = parse(&committed);
    let moved = moved(&frozen, &today);
    assert!(moved.is_empty(), "plugins that are out in the world would break:\n{}", moved.join("\n"));

    let new: Vec<_> = today.iter().filter(|(name, _)| !frozen.contains_key(*name)).collect();
    if !new.is_empty() && std::env::var_os("CACHEKIT_OVERWRITE").is_some_and(|value| value == "1") {
        let mut text = committed;
        for (name, fact) in new {
            let _ = writeln!(text, "{name} = {fact}");
        }
        std::fs::write(file(), text).unwrap();
        return;
    }
    let names: Vec<_> = new.iter().map(|(name, _)| name.as_str()).collect();
    assert!(new.is_empty(), "not recorded yet; run with CACHEKIT_OVERWRITE=1: {}", names.join(", "));
}

/// The controls: each kind of break is told by the name of what broke.
#[test]
fn a_break_is_told_by_the_name_of_its_field() {
    let source = generator::Source::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let types = types_of(&source);
    let frozen = today(&records(), &types);
    let of = |change: &dyn Fn(&mut Facts)| {
        let mut changed = frozen.clone();
        change(&mut changed);
        moved(&frozen, &changed).join("\n")
    };
    assert_eq!(of(&|_| {}), "");

    // Two fields change places, as a hand that sorts them would do it.
    let mut records = records();
    let options = records.iter_mut().find(|record| record.name == "CkCallOpt").unwrap();
    let (deadline, trace) = (options.fields[2].1, options.fields[3].1);
    options.fields[2].1 = trace;
    options.fields[3].1 = deadline;
    let text = moved(&frozen, &today(&records, &types)).join("\n");
    assert!(text.contains("CkCallOpt.deadline_ns moved: frozen as `at 8: u64`"), "{text}");
    assert!(text.contains("CkCallOpt.traceparent moved"), "{text}");

    // The same size, another type: invisible to sizes.
    let text = of(&|facts| drop(facts.insert("CkItem.ttl_ms".into(), frozen["CkItem.ttl_ms"].replace("u64", "i64"))));
    assert!(text.contains("CkItem.ttl_ms moved") && text.contains("i64"), "{text}");
    // One parameter less in a function of a table.
    let get = frozen["CkBackendV1.get"].replace("key: CkSlice, ", "");
    assert_ne!(get, frozen["CkBackendV1.get"]);
    let text = of(&|facts| drop(facts.insert("CkBackendV1.get".into(), get.clone())));
    assert!(text.contains("CkBackendV1.get moved"), "{text}");
    // A field more, a constant with another number, an id that is gone.
    let text = of(&|facts| drop(facts.insert("CkKv.flags".into(), "at 32: u32".into())));
    assert!(text.contains("CkKv.flags is new in a record that is frozen"), "{text}");
    let text = of(&|facts| drop(facts.insert("CK_E_TIMEOUT".into(), "-5".into())));
    assert!(text.contains("CK_E_TIMEOUT moved: frozen as `-4`, now `-5`"), "{text}");
    let text = of(&|facts| drop(facts.remove("CK_ID_BATCH")));
    assert!(text.contains("CK_ID_BATCH is gone: frozen as `\"cachekit.batch/1\"`"), "{text}");
    // What is new under a new name breaks nobody.
    assert_eq!(of(&|facts| drop(facts.insert("CK_ID_STATS".into(), "\"cachekit.stats/1\"".into()))), "");
}
