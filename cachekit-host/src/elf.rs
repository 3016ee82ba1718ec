//! The structure of a library, read from its bytes without loading it.
//!
//! The dynamic loader trusts headers: a file cut in half kills the process inside `dlopen`, and a library of another
//! architecture is reported as absent. So what the loader would map must lie inside the file, and the machine must be
//! this one, before it is asked.

use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, SymbolIndex};

/// What the headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// Machine, by its usual name.
    pub arch: &'static str,
    /// Content of the identity note, if there is one.
    pub note: Option<Vec<u8>>,
    /// Names of the symbols it exports.
    pub exports: Vec<String>,
}

/// Longest identity that is read, bytes.
const MAX_NOTE_BYTES: usize = 16 << 10;

/// Most exports that are listed, and how much of each name. A plugin has one.
const MAX_EXPORTS: usize = 4096;
const MAX_SYMBOL_BYTES: usize = 256;

/// Checks the structure of a library for this machine and reads what it says of itself.
pub fn parse(bytes: &[u8]) -> Result<Elf, String> {
    let machine = machine(bytes)?;
    if machine != HOST {
        return Err(format!("it is built for {}, this host is {}", name(machine), name(HOST)));
    }
    structure(bytes).map_err(|error| error.to_string())
}

/// This host's machine.
const HOST: elf::Machine = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else if cfg!(target_arch = "riscv64") {
    elf::EM_RISCV
} else {
    // Nothing is loaded on a machine that this list does not know.
    elf::EM_NONE
};

/// The machine a file is for, after the checks that every ELF file passes.
fn machine(bytes: &[u8]) -> Result<elf::Machine, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if !bytes.starts_with(&[0x7f, b'E', b'L', b'F']) {
        return Err("it is no ELF file".into());
    }
    let Some(header) = bytes.get(..64) else { return Err("it ends inside its header".into()) };
    if header[4] != 2 {
        return Err("it is a 32-bit library, this host is 64-bit".into());
    }
    if header[5] != 1 {
        return Err("it is big-endian, this host is little-endian".into());
    }
    Ok(elf::Machine(u16::from_le_bytes([header[18], header[19]])))
}

fn name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_386 => "x86 (32-bit)".into(),
        elf::EM_ARM => "arm (32-bit)".into(),
        elf::EM_RISCV => "riscv".into(),
        elf::EM_PPC64 => "powerpc64".into(),
        elf::EM_S390 => "s390x".into(),
        elf::Machine(other) => format!("an unknown machine ({other})"),
    }
}

fn structure(bytes: &[u8]) -> Result<Elf, Box<dyn std::error::Error>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    if header.e_type(endian) != elf::ET_DYN {
        return Err("it is no shared library (build it with crate-type cdylib, or cc -shared)".into());
    }
    let inside = |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= bytes.len() as u64);

    let mut loads = 0;
    let mut dynamic = None;
    let mut note = None;
    for segment in header.program_headers(endian, bytes)? {
        let (offset, size) = segment.file_range(endian);
        match segment.p_type(endian) {
            elf::PT_LOAD => {
                if !inside(offset, size) || segment.p_filesz(endian) > segment.p_memsz(endian) {
                    return Err("it is cut: a part that would be mapped lies beyond its end".into());
                }
                loads += 1;
            }
            elf::PT_DYNAMIC => dynamic = segment.dynamic(endian, bytes)?,
            elf::PT_NOTE => {
                // A damaged foreign note is no reason to refuse; ours, if it is among them, was found before.
                let Some(mut notes) = segment.notes(endian, bytes)? else { continue };
                while let Ok(Some(entry)) = notes.next() {
                    let ours = entry.name() == b"cachekit" && entry.n_type(endian).0 == cachekit_abi::CK_NOTE_TYPE;
                    if ours && note.is_none() {
                        if entry.desc().len() > MAX_NOTE_BYTES {
                            return Err(format!("its identity note is longer than {MAX_NOTE_BYTES} bytes").into());
                        }
                        note = Some(entry.desc().to_vec());
                    }
                }
            }
            _ => {}
        }
    }
    if loads == 0 {
        return Err("it has no part that could be mapped".into());
    }
    let Some(dynamic) = dynamic else { return Err("it has no dynamic section".into()) };
    if !dynamic.iter().any(|entry| entry.tag(endian) == elf::DT_SYMTAB) {
        return Err("its dynamic section names no symbols".into());
    }
    // A program that links a backend carries its note too, and has the structure of a library.
    let flags = dynamic.iter().find(|entry| entry.tag(endian) == elf::DT_FLAGS_1).map_or(0, |entry| entry.val(endian));
    if flags & elf::DF_1_PIE.0 != 0 {
        return Err("it is a program, not a library".into());
    }
    // The section table stands at the end of what linkers write, so a file that lost its tail is seen here.
    let sections = header.sections(endian, bytes)?;
    for section in sections.iter() {
        let no_bits = section.sh_type(endian) == elf::SHT_NOBITS;
        if !no_bits && !inside(section.sh_offset(endian), section.sh_size(endian)) {
            return Err("it is cut: a section lies beyond its end".into());
        }
    }
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    let mut exports = Vec::new();
    for index in 1..symbols.len() {
        let symbol = symbols.symbol(SymbolIndex(index))?;
        if symbol.st_shndx(endian) != elf::SHN_UNDEF && symbol.st_bind() != elf::STB_LOCAL {
            // Names may overlap in their table, so that a small file could hold gigabytes of them.
            let name = symbol.name(endian, symbols.strings())?;
            exports.push(String::from_utf8_lossy(&name[..name.len().min(MAX_SYMBOL_BYTES)]).into_owned());
            if exports.len() == MAX_EXPORTS {
                break;
            }
        }
    }
    exports.sort_unstable();
    Ok(Elf { arch: std::env::consts::ARCH, note, exports })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// This test's own executable.
    fn program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    /// It is position-independent, so it has the structure of a library but for one flag, which is taken away here.
    fn sample() -> Vec<u8> {
        let mut file = program();
        let tag = elf::DT_FLAGS_1.0.to_le_bytes();
        let entry = file.windows(16).position(|entry| entry[..8] == tag && entry[11] & 8 != 0 && entry[12..] == [0; 4]);
        file[entry.unwrap() + 11] &= !8;
        file
    }

    #[test]
    fn a_program_is_no_library() {
        assert_eq!(parse(&program()).unwrap_err(), "it is a program, not a library");
    }

    #[test]
    fn a_whole_file_is_taken_and_every_cut_is_refused() {
        let whole = sample();
        assert!(parse(&whole).is_ok());
        for part in [0, 1, 4, 20, 63, 64, 100, whole.len() / 2, whole.len() * 9 / 10, whole.len() - 1] {
            assert!(parse(&whole[..part]).is_err(), "{part} bytes of {}", whole.len());
        }
    }

    #[test]
    fn other_machines_and_kinds_are_named() {
        let whole = sample();
        let with = |at: usize, byte: u8| {
            let mut file = whole.clone();
            file[at] = byte;
            parse(&file).unwrap_err()
        };
        assert!(with(18, 183).contains("aarch64"), "machine");
        assert!(with(4, 1).contains("32-bit"), "class");
        assert!(with(5, 2).contains("big-endian"), "byte order");
        assert!(with(16, 1).contains("no shared library"), "type");
        assert!(with(0, 0).contains("no ELF"), "magic");
        assert!(parse(b"#!/bin/sh\n").unwrap_err().contains("no ELF"));
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0usize..4096, byte: u8, cut in 0usize..8192) {
            let mut file = sample();
            file.truncate(file.len().min(64 << 10));
            if let Some(slot) = file.get_mut(at) {
                *slot = byte;
            }
            let _ = parse(&file[..file.len() - cut.min(file.len())]);
        }
    }
}
