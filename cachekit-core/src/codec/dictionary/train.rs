//! Making a dictionary of samples.
//!
//! zstd's own trainer looks for what the samples share. It fails in terse words, or makes something worthless, when it has
//! too little to look at; so the conditions are checked here first and said in full.

use thiserror::Error;

use super::{DICTIONARY_UP_TO, Dictionary, DictionaryError, MAX_DICTIONARY_BYTES};

/// Smallest dictionary, bytes: below it zstd's trainer has no room for its own tables.
pub const MIN_DICTIONARY_BYTES: usize = 1 << 10;
/// Size of a dictionary without a wish, bytes.
pub const DEFAULT_DICTIONARY_BYTES: usize = 16 << 10;
/// Fewest samples. What fewer have in common is more likely chance than pattern.
pub const MIN_SAMPLES: usize = 50;
/// Samples together must be this many times the dictionary, else it is a copy of them.
pub const MIN_TIMES: usize = 8;
/// Most bytes of samples that are looked at: zstd advises a hundred times the dictionary, this is five hundred times the largest.
pub const MAX_SAMPLE_BYTES: usize = 64 << 20;

/// Why no dictionary was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The size wished for is out of range.
    #[error("a dictionary has {MIN_DICTIONARY_BYTES} to {MAX_DICTIONARY_BYTES} bytes, not {0}")]
    Size(usize),
    /// Not enough samples.
    #[error(
        "{samples} samples are too few to tell a pattern from chance: at least {MIN_SAMPLES} of 8 to {DICTIONARY_UP_TO} bytes \
         are needed, and a hundred times as many do better"
    )]
    TooFew {
        /// How many there were.
        samples: usize,
    },
    /// Not enough bytes.
    #[error(
        "{bytes} bytes of samples are too little for a dictionary of {size}: at least {MIN_TIMES} times its size is needed, \
         a hundred times is good; give more samples, or --max-size {suggested}"
    )]
    TooLittle {
        /// Bytes there were.
        bytes: usize,
        /// The size wished for, bytes.
        size: usize,
        /// A size for which they would do, bytes.
        suggested: usize,
    },
    /// zstd's trainer found nothing.
    #[error("the samples have too little in common for a dictionary")]
    Trainer(#[source] std::io::Error),
    /// What the trainer made cannot be used.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
}

/// Payloads to learn from, within their bounds.
#[derive(Debug, Default)]
pub struct Samples {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    /// Payloads that no dictionary is used for, or that came when there was enough.
    pub left_out: usize,
}

impl Samples {
    /// Adds one, unless it is too small or too large for a dictionary to be used, or there is enough already.
    pub fn add(&mut self, payload: &[u8]) {
        if !(8..=DICTIONARY_UP_TO).contains(&payload.len()) || self.bytes.len() + payload.len() > MAX_SAMPLE_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes.extend_from_slice(payload);
        self.lengths.push(payload.len());
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Their bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether more would be left out.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() + DICTIONARY_UP_TO > MAX_SAMPLE_BYTES
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |len| {
            let (sample, after) = rest.split_at_checked(*len)?;
            rest = after;
            Some(sample)
        })
    }

    /// A dictionary of at most `size` bytes of what they have in common.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn train(&self, size: usize) -> Result<Dictionary, TrainError> {
        if !(MIN_DICTIONARY_BYTES..=MAX_DICTIONARY_BYTES).contains(&size) {
            return Err(TrainError::Size(size));
        }
        if self.len() < MIN_SAMPLES {
            return Err(TrainError::TooFew { samples: self.len() });
        }
        if self.bytes() < size.saturating_mul(MIN_TIMES) {
            let suggested = (self.bytes() / MIN_TIMES).max(MIN_DICTIONARY_BYTES);
            return Err(TrainError::TooLittle { bytes: self.bytes(), size, suggested });
        }
        let content = zstd::dict::from_continuous(&self.bytes, &self.lengths, size).map_err(TrainError::Trainer)?;
        Ok(Dictionary::new(content)?)
    }
}
