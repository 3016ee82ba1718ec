//! Words that must be heard nowhere, and the ways in which they may be spelled.
//!
//! A canary is text that stands nowhere else. Who looks for it must know what becomes of bytes on their way into a log: they
//! are written as they are, in hex, in base64, in percent signs, as a list of numbers. Each spelling is looked for.

use std::fmt::Write as _;

/// Something secret, and what it is called in a complaint.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Its part, such as `the password of the store`.
    pub name: &'static str,
    spellings: Vec<(&'static str, String)>,
}

/// Where one was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What.
    pub canary: &'static str,
    /// How it was spelled.
    pub spelling: &'static str,
    /// What stood around it.
    pub around: String,
}

impl Canary {
    /// A text, or bytes.
    pub fn new(name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        assert!(bytes.len() >= 12, "{name} is so short that it may stand somewhere by chance");
        let mut spellings = vec![("in hex", hex(bytes)), ("as numbers", numbers(bytes))];
        if let Ok(text) = std::str::from_utf8(bytes) {
            spellings.push(("as it is", text.to_lowercase()));
            spellings.push(("reversed", text.chars().rev().collect::<String>().to_lowercase()));
        }
        let percent: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        spellings.push(("in percent signs", percent));
        for before in 0..3 {
            let text = base64_within(bytes, before);
            spellings.push(("in base64 for URLs", text.replace('+', "-").replace('/', "_")));
            spellings.push(("in base64", text));
        }
        Self { name, spellings }
    }

    /// A key in hex digits is secret as text and as the bytes it stands for.
    pub fn of_hex(name: &'static str, digits: &str) -> [Self; 2] {
        let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(hex_byte).collect();
        // Part of a key is too much as well.
        [Self::new(name, &digits[..24]), Self::new(name, &bytes[bytes.len() - 12..])]
    }
}

/// Every canary that is heard in `text`, in any spelling.
pub fn leaks(canaries: &[Canary], text: &str) -> Vec<Leak> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for canary in canaries {
        for (spelling, needle) in &canary.spellings {
            // Base64 tells cases apart, everything else may be written in either.
            let hay = if spelling.contains("base64") { text } else { &lower };
            if let Some(at) = hay.find(needle.as_str()) {
                let from = hay[..at].char_indices().rev().nth(160).map_or(0, |(from, _)| from);
                let around: String = hay[from..].chars().take(320 + needle.len()).collect();
                found.push(Leak { canary: canary.name, spelling, around });
            }
        }
    }
    found
}

/// An error as people see it, as programmers see it, and so everything below it.
pub fn all_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error:?} {error:#?}");
    let mut next = Some(error);
    while let Some(error) = next {
        let _ = write!(text, "\n{error}\n{error:?}");
        next = error.source();
    }
    text
}

fn hex_byte(pair: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `Debug` writes a slice of bytes.
fn numbers(bytes: &[u8]) -> String {
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    list.join(", ")
}

/// The digits of base64 that `bytes` alone decide when `before` other bytes stand before them.
fn base64_within(bytes: &[u8], before: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = vec![0_u8; before];
    bits.extend_from_slice(bytes);
    let whole = bits.len() / 3 * 3;
    let mut text = String::new();
    for group in bits[..whole].chunks(3) {
        let word = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[(word >> shift & 63) as usize]));
        }
    }
    // Of the first group the digits that the bytes before have a part in.
    text.split_off([0, 2, 3][before])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_of_a_canary_is_heard() {
        let canaries = [Canary::new("it", "canary-word-1")];
        for (text, spelling) in [
            ("x canary-word-1 y", "as it is"),
            ("x CANARY-WORD-1 y", "as it is"),
            ("63616e6172792d776f72642d31", "in hex"),
            ("[1, 99, 97, 110, 97, 114, 121, 45, 119, 111, 114, 100, 45, 49]", "as numbers"),
            ("%63%61%6E%61%72%79%2D%77%6F%72%64%2D%31", "in percent signs"),
            ("Y2FuYXJ5LXdvcmQtMQ==", "in base64"),
            // "user:canary-word-1", as basic authorization has it.
            ("dXNlcjpjYW5hcnktd29yZC0x", "in base64"),
        ] {
            let heard = leaks(&canaries, text);
            assert!(heard.iter().any(|leak| leak.spelling == spelling), "{text}: {heard:?}");
        }
        assert_eq!(leaks(&canaries, "canary-word-2 and 63616e"), []);
    }
}
