//! One line for each load and each refusal, for whoever asks later which code came into this process and who let it in.
//!
//! Through `tracing` under its own target, `cachekit::audit`, so that it can be kept where the other lines are not. It holds
//! no option and no secret of the plugin.

use std::path::Path;

use crate::error::LoadError;
use crate::plugin::Plugin;

pub(crate) fn loaded(plugin: &Plugin) {
    let (identity, provenance) = (plugin.identity(), plugin.provenance());
    tracing::info!(
        target: "cachekit::audit",
        path = %provenance.path.display(),
        sha256 = %provenance.sha256,
        id = %identity.id,
        version = %identity.version,
        abi = %identity.abi,
        signer = %provenance.signer(),
        pinned_by = %provenance.pins(),
        load_mode = %provenance.load_mode,
        layouts = if plugin.layouts_checked() { "same" } else { "absent" },
        "plugin loaded"
    );
}

pub(crate) fn refused(path: &Path, error: &LoadError) {
    tracing::warn!(
        target: "cachekit::audit",
        path = %path.display(),
        class = error.class(),
        reason = %error,
        "plugin refused"
    );
}
