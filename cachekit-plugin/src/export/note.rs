//! The identity of a library as an ELF note: readable without loading the library, kept by `strip` and by LTO.

/// Version of the ABI as the note states it.
pub const ABI: &str = "1.0";

/// Bytes of a note's description, padded as ELF wants it.
pub const fn len(parts: &[&str]) -> usize {
    let mut total = 0;
    let mut i = 0;
    while i < parts.len() {
        total += parts[i].len();
        i += 1;
    }
    total.next_multiple_of(4)
}

/// An ELF note with owner `cachekit`, type 1, and JSON as its description (padded with spaces, which JSON allows, so
/// that the length needs no second number).
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    name_len: u32,
    desc_len: u32,
    kind: u32,
    name: [u8; 12],
    desc: [u8; N],
}

impl<const N: usize> Note<N> {
    /// Builds the note at compile time.
    pub const fn new(parts: &[&str]) -> Self {
        let mut desc = [b' '; N];
        let mut at = 0;
        let mut i = 0;
        while i < parts.len() {
            let part = parts[i].as_bytes();
            let mut j = 0;
            while j < part.len() {
                desc[at] = part[j];
                at += 1;
                j += 1;
            }
            i += 1;
        }
        Self { name_len: 9, desc_len: N as u32, kind: cachekit_abi::CK_NOTE_TYPE, name: *b"cachekit\0\0\0\0", desc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_padded_json() {
        const PARTS: &[&str] = &["{\"id\":\"", "x.y", "\"}"];
        const LEN: usize = len(PARTS);
        static NOTE: Note<LEN> = Note::new(PARTS);
        assert_eq!(NOTE.desc_len % 4, 0);
        let json: serde_json::Value = serde_json::from_slice(&NOTE.desc).unwrap();
        assert_eq!(json["id"], "x.y");
        assert_eq!(ABI, format!("{}.{}", cachekit_abi::CK_ABI_MAJOR, cachekit_abi::CK_ABI_MINOR));
    }
}
