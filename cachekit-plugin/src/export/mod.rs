//! From a [`Backend`](crate::Backend) to the C ABI: what `export_backend!` puts into a library.
//!
//! Every entry catches panics, so that none crosses the border, and every table is generic over the backend, so that
//! two backends linked into one program stay two.

mod calls;
mod driver;
mod host;
mod instance;
pub mod note;
mod operation;
mod reply;
mod root;
#[cfg(feature = "tokio")]
mod runtime;
#[cfg(not(feature = "tokio"))]
#[path = "runtime_disabled.rs"]
mod runtime;
mod said;
mod waker;

pub use instance::Powers;
pub use root::{Export, plugin};

/// Exports a backend from a shared library.
///
/// * `id`: a name for operators, `vendor.store`.
/// * `backend`: a type that implements [`Open`](crate::Open).
/// * `powers`: what the library can do beyond the seven operations. An instance offers those of them that it answers
///   when it is asked (`fn batch(&self) -> Option<…>` and so on).
///
/// The crate needs `crate-type = ["cdylib", "rlib"]`. It exports one symbol, `cachekit_plugin_v1_<crate name>`, and
/// carries its identity in an ELF note, which hosts read without running anything.
///
/// ```
/// use cachekit_plugin::{Backend, BackendError, Bytes, Cx, Fut, Health, HostServices, Key, Limits, Open, Ttl, ready};
///
/// /// Forgets everything.
/// pub struct Null;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// pub struct NullConfig {}
///
/// impl Open for Null {
///     type Config = NullConfig;
///     fn open(_: NullConfig, _: HostServices) -> Result<Self, BackendError> {
///         Ok(Self)
///     }
/// }
///
/// impl Backend for Null {
///     fn limits(&self) -> Limits {
///         Limits::new(1024, 1 << 20)
///     }
///     fn get<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
///         ready(Ok(None))
///     }
///     fn set<'a>(&'a self, _: Key<'a>, _: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
///         ready(Ok(()))
///     }
///     fn delete<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
///         ready(Ok(false))
///     }
///     fn exists<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
///         ready(Ok(false))
///     }
///     fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
///         ready(Ok(Health::up("null", std::time::Duration::ZERO)))
///     }
///     fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
///         ready(Ok(()))
///     }
/// }
///
/// cachekit_plugin::export_backend! { id: "example.null", backend: Null, powers: [] }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_backend {
    (id: $id:literal, backend: $backend:ty, powers: [$($power:ident),* $(,)?] $(,)?) => {
        // Private, so that the backend may be: an exported symbol needs no visibility.
        mod __cachekit_export {
            #![allow(unsafe_code, clippy::needless_update)]
            use super::*;

            struct Library;

            impl $crate::export::Export for Library {
                type Backend = $backend;
                const ID: &'static str = $id;
                const POWERS: $crate::export::Powers =
                    $crate::export::Powers { $($power: true,)* ..$crate::export::Powers::NONE };
            }

            // The crate's name makes the symbol unique, so that backends can also be linked into one program.
            #[unsafe(export_name = ::core::concat!("cachekit_plugin_v1_", ::core::env!("CARGO_CRATE_NAME")))]
            extern "C" fn entry() -> *const $crate::abi::CkPluginV1 {
                $crate::export::plugin::<Library>()
            }

            #[cfg(panic = "unwind")]
            const PANIC: &str = "unwind";
            #[cfg(not(panic = "unwind"))]
            const PANIC: &str = "abort";

            const PARTS: &[&str] = &[
                "{\"id\":\"", $id,
                "\",\"version\":\"", ::core::env!("CARGO_PKG_VERSION"),
                "\",\"abi\":\"", $crate::export::note::ABI,
                "\",\"panic\":\"", PANIC,
                "\",\"entry\":\"cachekit_plugin_v1_", ::core::env!("CARGO_CRATE_NAME"),
                "\"}",
            ];
            const LEN: usize = $crate::export::note::len(PARTS);

            #[used]
            #[unsafe(link_section = ".note.cachekit")]
            static NOTE: $crate::export::note::Note<LEN> = $crate::export::note::Note::new(PARTS);
        }
    };
}
