//! Which part of what a function returns is kept.
//!
//! `None` and `Err` are not, unless asked: an error that is remembered outlives its reason, and what was not found may be
//! there the next moment. Which rule holds is chosen by the attribute, from the words of the return type.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use cachekit_core::cache::Value;

/// How a return value `R` is parted into what is kept and what is only returned.
pub trait Rule<R> {
    /// What is kept.
    type Stored: Value + Clone;

    /// The part to keep, or the whole if none is.
    ///
    /// # Errors
    /// What is not kept.
    fn split(returned: R) -> Result<Self::Stored, R>;

    /// A return value again.
    fn join(stored: Arc<Self::Stored>) -> R;

    /// Whether what is not kept says that there is nothing.
    fn is_none(_rest: &R) -> bool {
        false
    }

    /// What says so.
    fn none() -> Option<R> {
        None
    }
}

/// How the part that is kept is held by the caller.
pub trait Held<P> {
    /// What is kept of it.
    type Stored: Value + Clone;
    /// Takes it for the cache.
    fn take(part: P) -> Self::Stored;
    /// Gives it to the caller.
    fn give(stored: Arc<Self::Stored>) -> P;
}

/// By value: a hit is a clone.
#[derive(Debug)]
pub struct Owned;

impl<T: Value + Clone> Held<T> for Owned {
    type Stored = T;
    fn take(part: T) -> T {
        part
    }
    fn give(stored: Arc<T>) -> T {
        Arc::unwrap_or_clone(stored)
    }
}

/// In an `Arc`: a hit shares what the cache has.
#[derive(Debug)]
pub struct Shared;

impl<T: Value + Clone> Held<Arc<T>> for Shared {
    type Stored = T;
    fn take(part: Arc<T>) -> T {
        Arc::unwrap_or_clone(part)
    }
    fn give(stored: Arc<T>) -> Arc<T> {
        stored
    }
}

/// All of it.
#[derive(Debug)]
pub struct All<H>(PhantomData<H>);

impl<R, H: Held<R>> Rule<R> for All<H> {
    type Stored = H::Stored;
    fn split(returned: R) -> Result<H::Stored, R> {
        Ok(H::take(returned))
    }
    fn join(stored: Arc<H::Stored>) -> R {
        H::give(stored)
    }
}

/// `Some`, and not `None`.
#[derive(Debug)]
pub struct IfSome<H>(PhantomData<H>);

impl<P, H: Held<P>> Rule<Option<P>> for IfSome<H> {
    type Stored = H::Stored;
    fn split(returned: Option<P>) -> Result<H::Stored, Option<P>> {
        returned.map(H::take).ok_or(None)
    }
    fn join(stored: Arc<H::Stored>) -> Option<P> {
        Some(H::give(stored))
    }
    fn is_none(_rest: &Option<P>) -> bool {
        true
    }
    fn none() -> Option<Option<P>> {
        Some(None)
    }
}

/// `Ok`, and not `Err`.
#[derive(Debug)]
pub struct IfOk<H>(PhantomData<H>);

impl<P, E, H: Held<P>> Rule<Result<P, E>> for IfOk<H> {
    type Stored = H::Stored;
    fn split(returned: Result<P, E>) -> Result<H::Stored, Result<P, E>> {
        returned.map(H::take).map_err(Err)
    }
    fn join(stored: Arc<H::Stored>) -> Result<P, E> {
        Ok(H::give(stored))
    }
}

/// `Ok(Some)`, and neither `Ok(None)` nor `Err`.
#[derive(Debug)]
pub struct IfOkSome<H>(PhantomData<H>);

impl<P, E, H: Held<P>> Rule<Result<Option<P>, E>> for IfOkSome<H> {
    type Stored = H::Stored;
    fn split(returned: Result<Option<P>, E>) -> Result<H::Stored, Result<Option<P>, E>> {
        match returned {
            Ok(Some(part)) => Ok(H::take(part)),
            rest => Err(rest),
        }
    }
    fn join(stored: Arc<H::Stored>) -> Result<Option<P>, E> {
        Ok(Some(H::give(stored)))
    }
    fn is_none(rest: &Result<Option<P>, E>) -> bool {
        rest.is_ok()
    }
    fn none() -> Option<Result<Option<P>, E>> {
        Some(Ok(None))
    }
}

/// What is not kept, on its way to those who waited for it.
#[doc(hidden)]
pub enum Rest {
    /// A copy of what the function returned, if it can be copied.
    Returned(Option<Arc<dyn Any + Send + Sync>>),
    /// The same, and it says that there is nothing.
    Nothing(Option<Arc<dyn Any + Send + Sync>>),
}

/// Nothing of what it holds.
impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the function returned what is not kept")
    }
}

/// How a return value is handed to those who waited for another's call. One that cannot be cloned is not: each of them then
/// runs the function himself, as if there were no cache.
#[doc(hidden)]
pub struct Sharing<R> {
    pack: fn(&R) -> Arc<dyn Any + Send + Sync>,
    unpack: fn(&(dyn Any + Send + Sync)) -> Option<R>,
}

impl<R> Clone for Sharing<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Sharing<R> {}

#[doc(hidden)]
impl<R> Sharing<R> {
    pub const PROBE: Probe<R> = Probe(PhantomData);

    pub(super) fn pack(&self, returned: &R) -> Arc<dyn Any + Send + Sync> {
        (self.pack)(returned)
    }

    pub(super) fn unpack(&self, packed: &(dyn Any + Send + Sync)) -> Option<R> {
        (self.unpack)(packed)
    }
}

/// Asks at compile time whether `R` can be cloned: of the two methods `sharing`, the one that fits without another reference
/// is taken, and it is there for types that can.
#[doc(hidden)]
pub struct Probe<R>(PhantomData<fn() -> R>);

#[doc(hidden)]
pub trait Cloneable<R> {
    fn sharing(&self) -> Option<Sharing<R>>;
}

impl<R: Clone + Send + Sync + 'static> Cloneable<R> for Probe<R> {
    fn sharing(&self) -> Option<Sharing<R>> {
        Some(Sharing {
            pack: |returned| Arc::new(returned.clone()),
            unpack: |packed| packed.downcast_ref::<R>().cloned(),
        })
    }
}

#[doc(hidden)]
pub trait NotCloneable<R> {
    fn sharing(&self) -> Option<Sharing<R>>;
}

impl<R> NotCloneable<R> for &Probe<R> {
    fn sharing(&self) -> Option<Sharing<R>> {
        None
    }
}
