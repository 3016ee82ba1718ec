#![forbid(unsafe_code)]
//! One table of cases that says whether a cachekit backend is right.
//!
//! A backend is right when the engine can trust it with what the engine cannot check: that a miss is a miss, that a
//! delete is one, that a lease excludes, that a dropped future leaves nothing behind. The same [`cases`] run on our own
//! backends, on a backend in its author's `cargo test`, and on a loaded library, each case in a process of its own.
//!
//! Nothing about a backend is declared to the kit: which cases apply follows from the powers the instance offers when it
//! is asked, sizes and lives follow from its [`limits`](cachekit_plugin::Backend::limits). A case that does not apply
//! checks that the power is absent everywhere, and stands in the report with its reason.
//!
//! ```
//! use std::sync::Arc;
//! use cachekit_conformance::{Memory, run_all};
//! use cachekit_plugin::Backend;
//!
//! // Opens instances on one store; here of the reference backend.
//! let memory = Memory::default();
//! let open = move || Ok(Arc::new(memory.clone()) as Arc<dyn Backend>);
//!
//! let report = run_all(Arc::new(open), |case| case.name != "a_case_left_out");
//! assert!(report.is_ok(), "{report}");
//! ```
//!
//! A backend that is opened by options gives the kit more to ask, with [`ByOptions`]:
//!
//! ```
//! use std::sync::Arc;
//! use cachekit_conformance::{ByOptions, Group, Memory, run_all};
//!
//! let harness = ByOptions::<Memory>::new(serde_json::json!({ "max_key": 250 })).with_a_store_per_instance();
//! let report = run_all(Arc::new(harness), |case| case.group == Group::Config);
//! assert_eq!((report.passed, report.failed, report.not_asked), (3, 0, 0));
//! ```
//!
//! What the kit cannot see from outside: memory and descriptors that leak, bytes that change in a buffer a caller holds
//! while nobody writes, and what becomes of entries when a process is killed or power is lost.

mod case;
mod cases;
mod drive;
mod faulty;
mod harness;
mod instance;
mod life;
mod memory;
mod report;
mod run;
mod sample;
mod subject;
mod switched;
mod told;

pub use case::{Case, Failure, Group, Power};
pub use cases::{cases, find};
pub use faulty::{Fault, Faulty};
pub use harness::{ByOptions, Harness, Opened};
pub use instance::Instance;
pub use memory::{Clock, ManualClock, Memory, MemoryConfig, SystemClock};
pub use report::{CaseResult, Report};
pub use run::{run_all, run_all_with, run_case};
pub use subject::{Patience, Subject};
pub use switched::{Switch, Switched, Trouble};

/// The examples of the guide are compiled, so that it cannot drift from the traits.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
struct WritingAPlugin;
