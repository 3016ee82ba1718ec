//! What a reply is, by its kind; anything else than what was asked for is an error and not a guess.

use cachekit_plugin::Bytes;
use redis::Value;

use crate::error::Trouble;

/// The value of a key, or nothing.
pub(crate) fn value(reply: Value) -> Result<Option<Bytes>, Trouble> {
    match reply {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn number(reply: Value) -> Result<i64, Trouble> {
    match reply {
        Value::Int(number) => Ok(number),
        other => Err(unexpected(other)),
    }
}

/// How many keys it was, where one was asked for.
pub(crate) fn yes(reply: Value) -> Result<bool, Trouble> {
    match number(reply)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Trouble::WrongReply),
    }
}

pub(crate) fn okay(reply: Value) -> Result<(), Trouble> {
    match reply {
        Value::Okay => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// `OK`, or nothing where a condition was not met.
pub(crate) fn done(reply: Value) -> Result<bool, Trouble> {
    match reply {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn list(reply: Value) -> Result<Vec<Value>, Trouble> {
    match reply {
        Value::Array(values) => Ok(values),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn text(reply: Value) -> Result<String, Trouble> {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| Trouble::WrongReply),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: Value) -> Trouble {
    match reply {
        Value::ServerError(error) => Trouble::Server(error),
        _ => Trouble::WrongReply,
    }
}
