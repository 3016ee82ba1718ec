//! Several `[[tier]]`: all but the last are tiers of copies in front of it, in the order of the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Backend, HostServices};

use super::{Config, ConfigError, LibraryChoice, Setting, Source, TierChoice};
use crate::tier::chain::{DEFAULT_FRONT_TTL, MAX_FRONTS, TierSpec, WritePolicy};
use crate::tier::registry::Registry;

/// Longest cap of copies: beyond it another process's write would stay unseen for ever.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// A tier in front of the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontTier {
    /// What stands there.
    pub choice: Setting<TierChoice>,
    /// Where its options came from.
    pub options: BTreeMap<String, Source>,
    /// Longest life of a copy.
    pub ttl: Setting<Duration>,
    /// What a set does with the copy.
    pub write: Setting<WritePolicy>,
    /// Whether hits in later tiers are copied here.
    pub promote: Setting<bool>,
}

impl FrontTier {
    pub(super) fn new(choice: TierChoice, source: Source) -> Self {
        Self {
            choice: Setting { value: choice, source },
            options: BTreeMap::new(),
            ttl: Setting::default_to(DEFAULT_FRONT_TTL),
            write: Setting::default_to(WritePolicy::default()),
            promote: Setting::default_to(true),
        }
    }

    /// What statistics and health call it.
    fn name(&self) -> String {
        match &self.choice.value {
            TierChoice::None => "none".into(),
            TierChoice::Builtin { scheme, .. } => scheme.clone(),
            TierChoice::Plugin { library: LibraryChoice::Id(id), .. } => id.clone(),
            TierChoice::Plugin { library: LibraryChoice::Path(path), .. } => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }
}

pub(super) fn ttl(ttl: Duration) -> Result<Duration, String> {
    match ttl {
        Duration::ZERO => Err("copies with a life of zero are none; leave the tier out instead".into()),
        ttl if ttl > MAX_TTL => Err("a copy lives for 365 days at most".into()),
        ttl => Ok(ttl),
    }
}

pub(super) fn write(name: &str) -> Result<WritePolicy, String> {
    WritePolicy::from_name(name).ok_or_else(|| format!("{name:?} is none of through, behind, none"))
}

impl Config {
    /// Fronts belong to the last tier of the file. Whoever names another tier names the only one.
    pub(super) fn settle_fronts(&mut self) -> Result<(), ConfigError> {
        if self.fronts.is_empty() {
            return Ok(());
        }
        if !matches!(self.tier.source, Source::File { .. }) {
            let (chosen, first) = (&self.tier.source, &self.fronts[0].choice.source);
            let note = format!("the [[tier]]s of the file ({first}) are not used: {chosen} names the only one");
            self.notes.push(note);
            self.fronts.clear();
            return Ok(());
        }
        if let Some(front) = self.fronts.get(MAX_FRONTS) {
            let reason = format!("more than {MAX_FRONTS} tiers stand in front of the last one");
            return Err(ConfigError::value("tier", front.choice.source.clone(), reason));
        }
        let none = self.fronts.iter().map(|front| (&front.choice.value, &front.choice.source));
        let none = none.chain(self.tier.value.as_ref().map(|last| (last, &self.tier.source)));
        for (choice, source) in none {
            if *choice == TierChoice::None {
                let reason = "\"none\" has no place in a chain of tiers; leave it out".into();
                return Err(ConfigError::value("tier", source.clone(), reason));
            }
        }
        Ok(())
    }

    /// Opens the tiers in front of the last one.
    pub(super) fn open_fronts(
        &self,
        registry: &Registry,
        services: &HostServices,
    ) -> Result<Vec<TierSpec>, ConfigError> {
        let mut specs: Vec<TierSpec> = Vec::new();
        for front in &self.fronts {
            let backend = self.open_front(front, registry, services.clone())?;
            let same = specs.iter().filter(|spec| spec.name.split('#').next() == Some(&front.name())).count();
            let name = if same == 0 { front.name() } else { format!("{}#{}", front.name(), same + 1) };
            let spec = TierSpec::new(name, backend).ttl(front.ttl.value);
            specs.push(spec.write(front.write.value).promote(front.promote.value));
        }
        Ok(specs)
    }

    /// As the only tier, so that its errors name its own lines.
    fn open_front(
        &self,
        front: &FrontTier,
        registry: &Registry,
        services: HostServices,
    ) -> Result<Arc<dyn Backend>, ConfigError> {
        let tier = Setting { value: Some(front.choice.value.clone()), source: front.choice.source.clone() };
        let alone = Self { tier, tier_options: front.options.clone(), fronts: Vec::new(), ..self.clone() };
        let opened = alone.open_tier(registry, services)?;
        opened.ok_or_else(|| ConfigError::value("tier", front.choice.source.clone(), "it names no store".into()))
    }
}
