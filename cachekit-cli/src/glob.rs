//! Patterns for keys. Keys are bytes, not paths and not text, so no `/` is special and `?` is one byte.
//!
//! ```text
//! *  any run of bytes    ?  one byte    [a-z]  one of a set    [!a-z]  one not of a set    \x  x itself
//! ```

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Byte(u8),
    Any,
    Run,
    Set { ranges: Vec<(u8, u8)>, negated: bool },
}

/// A pattern that keys match as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    steps: Vec<Step>,
}

impl Glob {
    /// Reads a pattern; the error says what is wrong with it.
    pub(crate) fn parse(pattern: &[u8]) -> Result<Self, String> {
        let mut steps = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            match first {
                // Several in a row mean the same as one and would only cost time.
                b'*' if steps.last() == Some(&Step::Run) => {}
                b'*' => steps.push(Step::Run),
                b'?' => steps.push(Step::Any),
                b'[' => {
                    let (set, after) = set(rest).ok_or("a [ without its ]; write \\[ for the character itself")?;
                    steps.push(set);
                    rest = after;
                }
                b'\\' => {
                    let (&literal, after) = rest.split_first().ok_or("a \\ at the end takes nothing")?;
                    steps.push(Step::Byte(literal));
                    rest = after;
                }
                byte => steps.push(Step::Byte(byte)),
            }
        }
        Ok(Self { steps })
    }

    /// Whether the whole of `key` fits. Takes at most pattern × key steps: on a mismatch only the last run grows.
    pub(crate) fn matches(&self, key: &[u8]) -> bool {
        let (mut step, mut at) = (0, 0);
        let mut last_run: Option<(usize, usize)> = None;
        while at < key.len() {
            match self.steps.get(step) {
                Some(Step::Run) => {
                    last_run = Some((step, at));
                    step += 1;
                }
                Some(one) if one.takes(key[at]) => {
                    step += 1;
                    at += 1;
                }
                _ => {
                    let Some((run, taken)) = last_run else { return false };
                    last_run = Some((run, taken + 1));
                    (step, at) = (run + 1, taken + 1);
                }
            }
        }
        self.steps[step..].iter().all(|step| *step == Step::Run)
    }
}

impl Step {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(expected) => byte == *expected,
            Self::Any | Self::Run => true,
            Self::Set { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

/// A set after its `[`, and what follows its `]`. A `]` in first place is one of the set.
fn set(pattern: &[u8]) -> Option<(Step, &[u8])> {
    let (negated, mut rest) = match pattern.split_first()? {
        (b'!' | b'^', after) => (true, after),
        _ => (false, pattern),
    };
    let mut ranges = Vec::new();
    loop {
        let (&low, after) = rest.split_first()?;
        if low == b']' && !ranges.is_empty() {
            return Some((Step::Set { ranges, negated }, after));
        }
        match after {
            [b'-', high, after @ ..] if *high != b']' => {
                ranges.push((low, *high));
                rest = after;
            }
            _ => {
                ranges.push((low, low));
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&[u8]], no: &[&[u8]]) {
        let glob = Glob::parse(pattern.as_bytes()).unwrap();
        for key in yes {
            assert!(glob.matches(key), "{pattern} should match {key:?}");
        }
        for key in no {
            assert!(!glob.matches(key), "{pattern} should not match {key:?}");
        }
    }

    #[test]
    fn patterns_match_whole_keys() {
        check("user:*", &[b"user:", b"user:1", b"user:a/b"], &[b"user", b"xuser:1"]);
        check("*:1", &[b":1", b"a:1", b"a:1:1"], &[b"a:11", b""]);
        check("a*b*c", &[b"abc", b"axxbxxc", b"abbcc"], &[b"ab", b"acb"]);
        check("?", &[b"a", b"\xff", b"\n"], &[b"", b"ab"]);
        check("*", &[b"", b"\0"], &[]);
        check("", &[b""], &[b"a"]);
    }

    #[test]
    fn sets_hold_ranges_and_may_be_negated() {
        check("[a-c]", &[b"a", b"c"], &[b"d", b"-", b""]);
        check("[!a-c]x", &[b"dx"], &[b"ax"]);
        check("[^a]", &[b"b"], &[b"a"]);
        check("[]a]", &[b"]", b"a"], &[b"b"]);
        check("[a-]", &[b"a", b"-"], &[b"b"]);
    }

    #[test]
    fn a_backslash_takes_the_next_byte_as_it_is() {
        check(r"\*", &[b"*"], &[b"a"]);
        check(r"a\[b", &[b"a[b"], &[b"ab"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(Glob::parse(b"[a").is_err());
        assert!(Glob::parse(b"[]").is_err());
        assert!(Glob::parse(b"a\\").is_err());
    }

    #[test]
    fn many_runs_take_no_exponential_time() {
        let glob = Glob::parse("*a".repeat(200).as_bytes()).unwrap();
        assert!(!glob.matches(&[b'a'; 199].iter().copied().chain(*b"b").cycle().take(20_000).collect::<Vec<_>>()));
    }
}
