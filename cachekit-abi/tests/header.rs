//! The committed C header is the one this source generates, and a C compiler sees the layouts that rustc chose.

use cachekit_abi::*;
use std::mem::size_of;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod contract;
use contract::{Record, generator, numbers, records, texts};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A C program of nothing but assertions about `records`, and about the constants.
fn assertions(records: &[Record]) -> String {
    let mut c = "#include \"cachekit_plugin.h\"\n".to_owned();
    // The same lines serve both languages.
    c += "#ifdef __cplusplus\n#define CHECK(truth) static_assert(truth, #truth)\n";
    c += "#else\n#define CHECK(truth) _Static_assert(truth, #truth)\n#endif\n";
    for Record { name, size, align, fields } in records {
        c += &format!("CHECK(sizeof({name}) == {size});\n");
        c += &format!("#ifdef __cplusplus\nCHECK(alignof({name}) == {align});\n");
        c += &format!("#else\nCHECK(_Alignof({name}) == {align});\n#endif\n");
        for (field, offset) in fields {
            c += &format!("CHECK(offsetof({name}, {field}) == {offset});\n");
        }
    }
    for (name, value) in numbers() {
        let literal = if value < 0 { value.to_string() } else { format!("UINT64_C({value})") };
        c += &format!("CHECK({name} == {literal});\n");
    }
    for (name, text) in texts() {
        // C cannot compare texts in a constant expression; `every_text_is_defined_as_in_rust` does.
        c += &format!("CHECK(sizeof({name}) == {});\n", text.len() + 1);
    }
    c
}

/// Runs a compiler over `source`, which is written to a file of its own.
fn compile(compiler: &str, args: &[&str], name: &str, source: &str) -> Output {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, source).unwrap();
    Command::new(compiler)
        .args(args)
        .arg("-I")
        .arg(root().join("include"))
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("this test needs the compiler `{compiler}`: {error}"))
}

const C: [&str; 6] = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"];
const CXX: [&str; 6] = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"];

fn assert_compiles(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let committed = std::fs::read_to_string(root().join("include/cachekit_plugin.h")).unwrap();
    let generated = generator::header().unwrap();
    if committed != generated {
        let line = committed.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count() + 1;
        panic!("include/cachekit_plugin.h differs from its source at line {line}: run `cargo xtask header`");
    }
}

#[test]
fn every_layout_and_number_is_the_same_in_c() {
    assert_compiles(&compile("cc", &C, "layout.c", &assertions(&records())));
}

#[test]
fn every_layout_and_number_is_the_same_in_cplusplus() {
    assert_compiles(&compile("c++", &CXX, "layout.cc", &assertions(&records())));
}

#[test]
fn a_wrong_offset_or_size_does_not_compile() {
    let mut wrong = records();
    wrong[0].fields[1].1 += 1;
    let output = compile("cc", &C, "wrong_offset.c", &assertions(&wrong));
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("offsetof(CkLimits, max_key)"));

    let mut wrong = records();
    wrong[0].size += 8;
    assert!(!compile("cc", &C, "wrong_size.c", &assertions(&wrong)).status.success());
}

/// Structs with their fields, as the source spells them.
fn structs_of(source: &generator::Source) -> Vec<(String, Vec<String>)> {
    let mut structs: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in source.files.iter().flat_map(|file| file.text.lines()) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            structs.push((name.to_owned(), Vec::new()));
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if let (true, Some(rest)) = (inside, line.strip_prefix("    pub ")) {
            let field = rest.split(':').next().unwrap();
            structs.last_mut().unwrap().1.push(field.to_owned());
        }
    }
    structs
}

#[test]
fn no_field_of_the_source_is_without_an_assertion() {
    let source = generator::Source::read(root()).unwrap();
    let mut asserted: Vec<(String, Vec<String>)> = records()
        .into_iter()
        .map(|record| (record.name.to_owned(), record.fields.iter().map(|(name, _)| (*name).to_owned()).collect()))
        .collect();
    let mut declared = structs_of(&source);
    declared.sort();
    asserted.sort();
    assert_eq!(declared, asserted);
}

#[test]
fn no_constant_of_the_source_is_without_an_assertion() {
    let source = generator::Source::read(root()).unwrap();
    let mut declared: Vec<&str> = source
        .files
        .iter()
        .flat_map(|file| file.text.lines())
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| *name != "CK_ID_REFLECT")
        .collect();
    let mut asserted: Vec<&str> = numbers().iter().map(|(name, _)| *name).collect();
    asserted.extend(texts().iter().map(|(name, _)| *name));
    declared.sort_unstable();
    asserted.sort_unstable();
    assert_eq!(declared, asserted);
}

#[test]
fn every_text_is_defined_as_in_rust() {
    let header = generator::header().unwrap();
    for (name, text) in texts() {
        let define = format!("#define {name} \"{text}\"");
        assert!(header.lines().any(|line| line == define), "no line reads {define}");
    }
}

#[test]
fn what_speaks_to_rust_only_is_not_in_the_header() {
    let header = generator::header().unwrap();
    for name in ["CkLayout", "CkReflect", "CK_ID_REFLECT", "_EMPTY", "crate::", "(crate."] {
        assert!(!header.contains(name), "{name} is in the header");
    }
}

#[test]
fn the_documented_sizes_hold() {
    assert_eq!(size_of::<CkPluginV1>(), 40);
    assert_eq!(size_of::<CkSlice>(), 16);
    assert_eq!(size_of::<CkBuf>(), 32);
    assert_eq!(size_of::<CkError>(), 48);
}

/// The section `.note.cachekit` of a 64-bit little-endian ELF file: its type and its bytes.
fn note_section(elf: &[u8]) -> Option<(u32, &[u8])> {
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&elf[at..at + len]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (table, entry, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
    let section = |index: usize| table + index * entry;
    let names = number(section(names) + 0x18, 8);
    (0..count).map(section).find_map(|at| {
        let name = &elf[names + number(at, 4)..];
        let (start, len) = (number(at + 0x18, 8), number(at + 0x20, 8));
        name.starts_with(b".note.cachekit\0").then(|| (number(at + 4, 4) as u32, &elf[start..start + len]))
    })
}

#[test]
fn the_note_macro_leaves_one_note_that_survives_optimisation_and_strip() {
    const SHT_NOTE: u32 = 7;
    let source = "#include \"cachekit_plugin.h\"\n\
        CK_PLUGIN_NOTE(\"acme.store\", \"1.2.3\");\n\
        CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void);\n\
        CK_EXPORT const CkPluginV1 *cachekit_plugin_v1(void) { return NULL; }\n";
    let json = "{\"id\":\"acme.store\",\"version\":\"1.2.3\",\"abi\":\"1.0\",\"panic\":\"unwind\",\
        \"entry\":\"cachekit_plugin_v1\"}";
    let variants: [(&str, &str, &[&str]); 3] = [
        ("cc", "note.c", &["-std=c11"]),
        ("cc", "note_lto.c", &["-std=c11", "-flto", "-s", "-Wl,--gc-sections"]),
        ("c++", "note.cc", &["-std=c++17", "-O2", "-s"]),
    ];
    for (compiler, name, extra) in variants {
        let library: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("so");
        let library_arg = library.to_str().unwrap();
        let mut args = vec!["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-shared", "-fPIC", "-o", library_arg];
        args.extend(extra);
        assert_compiles(&compile(compiler, &args, name, source));

        let elf = std::fs::read(&library).unwrap();
        let (kind, note) = note_section(&elf).expect("no section .note.cachekit");
        assert_eq!(kind, SHT_NOTE);
        let desc = json.len().next_multiple_of(4);
        assert_eq!(note[..4], 9u32.to_le_bytes());
        assert_eq!(note[4..8], (desc as u32).to_le_bytes());
        assert_eq!(note[8..12], CK_NOTE_TYPE.to_le_bytes());
        assert_eq!(&note[12..24], b"cachekit\0\0\0\0");
        assert_eq!(std::str::from_utf8(&note[24..]).unwrap(), format!("{json:<desc$}"));
    }
}
