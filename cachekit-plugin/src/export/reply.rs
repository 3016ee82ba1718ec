//! What an operation ends with, and how that is written into the host's records.

use bytes::Bytes;
use cachekit_abi::{self as abi, CK_NO, CK_OK, CkItem, CkOut};

use crate::backend::{Answers, Page, Version};
use crate::error::{BackendError, Kind, Operation};
use crate::freshness::Dated;
use crate::health::Health;
use crate::raw;
use crate::ttl::Ttl;

/// What an operation ends with.
pub(super) enum Reply {
    Yes,
    No,
    Buf(Bytes),
    Num(u64),
    Versioned(Bytes, Version),
    Health(Health),
    Hits(Answers<Option<Bytes>>),
    Stored(Answers<()>),
    Deleted(Answers<bool>),
    Page(Page),
    Dated(Dated),
}

impl From<bool> for Reply {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl From<Option<Bytes>> for Reply {
    fn from(found: Option<Bytes>) -> Self {
        found.map_or(Self::No, Self::Buf)
    }
}

/// Leaves the reply where the host wants it.
pub(super) fn deliver(
    operation: Operation,
    reply: Reply,
    out: &mut CkOut,
    items: &mut [CkItem],
) -> Result<i32, BackendError> {
    match reply {
        Reply::Yes => {}
        Reply::No => return Ok(CK_NO),
        Reply::Buf(bytes) => out.buf = raw::give(bytes),
        Reply::Num(num) => out.num = num,
        Reply::Versioned(bytes, version) => {
            out.buf = raw::give(bytes);
            out.version = raw::version(version);
        }
        Reply::Dated(dated) => {
            out.buf = raw::give(dated.value);
            out.flags = if dated.stale { abi::CK_DATED_STALE } else { 0 };
            // The largest number says that the store did not; so a value that is fresh for ever is fresh a little less.
            let longest = abi::CK_FRESH_UNKNOWN - 1;
            out.num = dated.fresh_for_ms.map_or(abi::CK_FRESH_UNKNOWN, |ms| ms.min(longest));
        }
        Reply::Health(health) => out.buf = raw::give(health_json(&health)?),
        Reply::Hits(answers) => answer(operation, items, answers, |item, hit| match hit {
            Some(bytes) => {
                item.val = raw::give(bytes);
                CK_OK
            }
            None => CK_NO,
        })?,
        Reply::Stored(answers) => answer(operation, items, answers, |_, ()| CK_OK)?,
        Reply::Deleted(answers) => answer(operation, items, answers, |_, yes| if yes { CK_OK } else { CK_NO })?,
        Reply::Page(page) => {
            if page.items.len() > items.len() {
                return Err(BackendError::new(Kind::Internal, operation, "a page longer than was asked for"));
            }
            out.num = page.items.len() as u64;
            for (item, id) in items.iter_mut().zip(page.items) {
                item.val = raw::give(id);
            }
            out.buf = page.next.map_or(abi::CkBuf::EMPTY, raw::give);
        }
    }
    Ok(CK_OK)
}

/// Writes the answers of a batch, one per item.
fn answer<T>(
    operation: Operation,
    items: &mut [CkItem],
    answers: Answers<T>,
    write: impl Fn(&mut CkItem, T) -> i32,
) -> Result<(), BackendError> {
    if answers.len() != items.len() {
        let text = format!("{} answers to a batch of {}", answers.len(), items.len());
        return Err(BackendError::new(Kind::Internal, operation, text));
    }
    for (item, answer) in items.iter_mut().zip(answers) {
        item.status = match answer {
            Ok(found) => write(item, found),
            // SAFETY: the record is the host's and zeroed.
            Err(error) => unsafe { raw::fail(&mut item.err, &error) },
        };
    }
    Ok(())
}

/// The health report as it crosses the border.
pub(super) fn health_json(health: &Health) -> Result<Bytes, BackendError> {
    serde_json::to_vec(health).map(Bytes::from).map_err(|error| {
        BackendError::new(Kind::Internal, Operation::Health, "the health report is no JSON").with_source(error)
    })
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::Yes
    }
}

impl From<u64> for Reply {
    fn from(num: u64) -> Self {
        Self::Num(num)
    }
}

impl From<Option<Ttl>> for Reply {
    fn from(ttl: Option<Ttl>) -> Self {
        ttl.map_or(Self::No, |ttl| Self::Num(raw::ttl_ms(ttl)))
    }
}

impl From<Option<(Bytes, Version)>> for Reply {
    fn from(found: Option<(Bytes, Version)>) -> Self {
        found.map_or(Self::No, |(bytes, version)| Self::Versioned(bytes, version))
    }
}

impl From<Health> for Reply {
    fn from(health: Health) -> Self {
        Self::Health(health)
    }
}

impl From<Answers<Option<Bytes>>> for Reply {
    fn from(answers: Answers<Option<Bytes>>) -> Self {
        Self::Hits(answers)
    }
}

impl From<Answers<()>> for Reply {
    fn from(answers: Answers<()>) -> Self {
        Self::Stored(answers)
    }
}

impl From<Answers<bool>> for Reply {
    fn from(answers: Answers<bool>) -> Self {
        Self::Deleted(answers)
    }
}

impl From<Page> for Reply {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

impl From<Option<Dated>> for Reply {
    fn from(found: Option<Dated>) -> Self {
        found.map_or(Self::No, Self::Dated)
    }
}
