//! Names under which entries are filed, so that many can be invalidated at once.
//!
//! Bounded in number and length, because every entry carries its tags, and every read of one compares their epochs.

use std::fmt;

/// Most tags of one entry.
pub const MAX_TAGS: usize = 32;
/// Longest tag, bytes.
pub const MAX_TAG_BYTES: usize = 256;

/// A tag that cannot be used, or too many of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// A tag names a group; the empty one names nothing.
    #[error("a tag is empty")]
    Empty,
    /// A tag beyond the limit.
    #[error("a tag has {len} bytes, at most {MAX_TAG_BYTES} are taken; hash what is longer")]
    TooLong {
        /// Its length, bytes.
        len: usize,
    },
    /// Tags for a touch.
    #[error("a touch gives an entry a new life, and no other tags")]
    Touch,
    /// More tags than an entry may have.
    #[error("{count} tags for one entry, at most {MAX_TAGS} are taken")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// The tags of one write.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags(Vec<Box<[u8]>>);

impl Tags {
    /// Adds one. A tag that is there already changes nothing.
    pub(crate) fn add(&mut self, tag: &[u8]) {
        if !self.0.iter().any(|known| **known == *tag) {
            self.0.push(tag.into());
        }
    }

    /// Whether an entry can carry them.
    pub(crate) fn check(&self) -> Result<(), TagError> {
        if self.0.len() > MAX_TAGS {
            return Err(TagError::TooMany { count: self.0.len() });
        }
        self.0.iter().try_for_each(|tag| check(tag))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(|tag| &**tag)
    }
}

/// Whether a tag can be used.
pub(crate) fn check(tag: &[u8]) -> Result<(), TagError> {
    match tag.len() {
        0 => Err(TagError::Empty),
        len if len > MAX_TAG_BYTES => Err(TagError::TooLong { len }),
        _ => Ok(()),
    }
}

/// Their number: a tag may name a person.
impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tags", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_bounded_in_number_and_length() {
        let with = |tags: &[&[u8]]| {
            let mut all = Tags::default();
            tags.iter().for_each(|tag| all.add(tag));
            all.check()
        };
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[&[b'x'; MAX_TAG_BYTES]]), Ok(()));
        assert_eq!(with(&[b"a", b""]), Err(TagError::Empty));
        assert_eq!(with(&[&[b'x'; MAX_TAG_BYTES + 1]]), Err(TagError::TooLong { len: MAX_TAG_BYTES + 1 }));
        let many: Vec<[u8; 2]> = (0..=MAX_TAGS as u16).map(u16::to_be_bytes).collect();
        let many: Vec<&[u8]> = many.iter().map(|tag| &tag[..]).collect();
        assert_eq!(with(&many[..MAX_TAGS]), Ok(()));
        assert_eq!(with(&many), Err(TagError::TooMany { count: MAX_TAGS + 1 }));
        assert_eq!(with(&[&b"same"[..]; MAX_TAGS + 1]), Ok(()), "the same tag counts once");
    }

    #[test]
    fn a_tag_is_not_shown() {
        let mut tags = Tags::default();
        tags.add(b"alice");
        assert_eq!(format!("{tags:?}"), "1 tags");
    }
}
