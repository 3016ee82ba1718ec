//! From a call to its key: the function's full name and its arguments, as a text that is the same in every build.
//!
//! ```text
//! app::users::user(42,"ada")                        what people read in a store, and what `cachekit get` takes
//! app::users::user(["a","b"…)#<64 hex digits>       longer than 200 bytes: the beginning, and the BLAKE2b-256 of the whole
//! ```
//!
//! It protects callers from each other: two calls share a key only if function, type parameters and arguments are the same.
//! A text and no MessagePack because operators read keys; of arguments and not of their hashes, because most are short.

mod canonical;

use std::fmt::Write;

use blake2::{Blake2b, Digest, digest::consts::U32};
use cachekit_core::interop::Argument;
use serde::Serialize;

use super::failure::CachedError;

/// Longest key that is kept as it is, bytes.
const READABLE: usize = 200;
/// What is left of the beginning of a longer one, bytes.
const BEGINNING: usize = 96;

/// The key of a call.
#[doc(hidden)]
#[derive(Debug)]
pub enum Key {
    /// Of the cache's own entries.
    Own(String),
    /// Of entries that other languages read.
    Interop {
        /// The name of the call.
        operation: &'static str,
        /// In the order of the declaration.
        arguments: Vec<Argument>,
    },
}

#[doc(hidden)]
impl Key {
    /// A key that the attribute spells out.
    pub fn text(text: String) -> Result<Self, CachedError> {
        Ok(Self::Own(text))
    }

    pub fn interop(operation: &'static str, arguments: Vec<Argument>) -> Result<Self, CachedError> {
        Ok(Self::Interop { operation, arguments })
    }
}

/// What an argument must be to stand in a key.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot stand in the key of a cached function",
    label = "this is not `serde::Serialize`",
    note = "leave it out with `skip(…)` if it is only a means to get the answer, such as a connection",
    note = "or say what the key is made of: `key = \"user:{{id}}\"`, or `key_by = (a, b)`"
)]
pub trait KeyPart: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> KeyPart for T {}

/// What an argument must be to stand in a key of interop mode.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot stand in a key that other languages make too",
    label = "this is no `Into<cachekit::interop::Argument>`",
    note = "leave it out with `skip(…)`, or take one of the types of `cachekit::interop::Argument`"
)]
pub trait InteropArgument {
    #[doc(hidden)]
    fn to_argument(&self) -> Argument;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Into<Argument>> InteropArgument for T {
    fn to_argument(&self) -> Argument {
        self.clone().into()
    }
}

#[doc(hidden)]
pub fn interop_argument<T: InteropArgument>(value: &T) -> Argument {
    value.to_argument()
}

/// Puts a key together.
#[doc(hidden)]
#[derive(Debug)]
pub struct KeyBuilder {
    text: String,
    arguments: usize,
    fault: Option<&'static str>,
}

#[doc(hidden)]
impl KeyBuilder {
    /// The name of the function as the compiler gives it. Another compiler may spell it otherwise, which costs a miss.
    pub fn of(name: &str) -> Self {
        Self { text: name.to_owned(), arguments: 0, fault: None }
    }

    pub fn argument<T: KeyPart + ?Sized>(&mut self, value: &T) {
        self.text.push(if self.arguments == 0 { '(' } else { ',' });
        self.arguments += 1;
        if let Err(fault) = canonical::write(&mut self.text, value) {
            self.fault = Some(fault.0);
        }
    }

    pub fn finish(mut self) -> Result<Key, CachedError> {
        if let Some(fault) = self.fault {
            return Err(CachedError::Key(fault));
        }
        self.text.push_str(if self.arguments == 0 { "()" } else { ")" });
        if self.text.len() <= READABLE {
            return Ok(Key::Own(self.text));
        }
        let digest = Blake2b::<U32>::digest(self.text.as_bytes());
        let beginning = (0..=BEGINNING).rev().find(|end| self.text.is_char_boundary(*end)).unwrap_or(0);
        self.text.truncate(beginning);
        self.text.push('#');
        for byte in digest {
            let _ = write!(self.text, "{byte:02x}");
        }
        Ok(Key::Own(self.text))
    }
}
