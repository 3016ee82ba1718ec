#![forbid(unsafe_code)]
//! `#[cached]`: a function whose answers are kept in a cache.
//!
//! It protects whoever writes it from the mistakes that a cache forgives late: a key that leaves something out, a life of
//! nothing, a word that is spelled wrong and then has no effect. Each is an error here, at the place where it was written, and
//! says what to do. What the generated code does is in the crate `cachekit`, module `cached`; here are words alone:
//! `attribute.rs` reads them, `signature.rs` looks at the function, `expand.rs` writes.

mod attribute;
mod expand;
mod nearest;
mod signature;

use proc_macro::TokenStream;
use quote::quote;

/// Keeps what a function returns, and makes functions beside it that invalidate, refresh and prime what is kept.
///
/// Described in the documentation of the module `cachekit::cached`, and in `docs/macros.md` of the project.
#[proc_macro_attribute]
pub fn cached(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = proc_macro2::TokenStream::from(item);
    match expand::cached(attribute.into(), function.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            // The function stays as it was, so that the one mistake does not hide behind what follows from it.
            let error = error.into_compile_error();
            quote!(#error #function).into()
        }
    }
}
