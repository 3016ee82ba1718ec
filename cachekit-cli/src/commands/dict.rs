//! Compression dictionaries: made of samples, kept in the store, looked at.
//!
//! A sample is what a cache would compress, a serialized value. The dictionary is measured on samples it was not trained
//! on, because what it saves on its own is flattery.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cachekit::Cache;
use cachekit::blocking::wait;
use cachekit::codec::Dictionary;
use cachekit::codec::dictionary::MAX_DICTIONARY_BYTES;
use cachekit::codec::dictionary::train::Samples;
use serde_json::{Value as Json, json};

use super::store::table;
use crate::cli::dict::{DictCommand, TrainArgs};
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// One sample in so many is kept apart to measure with.
const KEPT_APART: usize = 10;
/// zstd's default level, at which the sizes are compared.
const LEVEL: i32 = 3;
/// Directories inside of directories that are followed.
const MAX_DEPTH: usize = 16;

pub(super) fn dict(command: &DictCommand, session: &Session) -> Result<Outcome, Failure> {
    match command {
        DictCommand::Train(args) => train(args, session),
        DictCommand::Install { file } => install(file, session),
        DictCommand::List => list(session),
        DictCommand::Show { dictionary, out } => show(dictionary, out.as_deref(), session),
    }
}

/// Samples, and those that are kept apart.
#[derive(Default)]
struct Corpus {
    samples: Samples,
    apart: Samples,
    seen: usize,
}

impl Corpus {
    fn add(&mut self, payload: &[u8]) {
        self.seen += 1;
        if self.seen.is_multiple_of(KEPT_APART) { self.apart.add(payload) } else { self.samples.add(payload) }
    }

    fn is_full(&self, limit: u32) -> bool {
        self.seen >= limit as usize || self.samples.is_full()
    }
}

fn train(args: &TrainArgs, session: &Session) -> Result<Outcome, Failure> {
    let mut corpus = Corpus::default();
    if args.paths.is_empty() {
        session.with_cache(|cache| from_store(cache, &mut corpus, args, session))?;
    } else {
        from_files(&mut corpus, args, session)?;
    }
    let spinner = session.output.spinner("training");
    let trained = corpus.samples.train(args.max_size);
    spinner.finish_and_clear();
    let dictionary = trained.map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(out) = &args.out {
        write(out, &dictionary)?;
    }
    let installed = match args.install {
        true => Some(session.with_cache(|cache| Ok(wait(cache.install_dictionary(&dictionary))?))?),
        false => None,
    };
    let (plain, with) = measure(&dictionary, &corpus.apart);
    let document = json!({
        "id": dictionary.id().to_string(),
        "bytes": dictionary.content().len(),
        "samples": corpus.samples.len(),
        "sample_bytes": corpus.samples.bytes(),
        "left_out": corpus.samples.left_out + corpus.apart.left_out,
        "measured_on": corpus.apart.len(),
        "without_bytes": plain,
        "with_bytes": with,
        "times_smaller": (with > 0).then(|| (plain as f64 / with as f64 * 100.0).round() / 100.0),
        "file": args.out,
        "installed": installed,
    });
    shown(&document, session)?;
    Ok(Outcome::Done)
}

fn shown(document: &Json, session: &Session) -> Result<(), Failure> {
    if session.output.is_json() {
        session.output.document(document)
    } else {
        session.output.bytes(table(document).as_bytes())
    }
}

/// Bytes that the samples kept apart take: with zstd alone, with the dictionary.
fn measure(dictionary: &Dictionary, apart: &Samples) -> (usize, usize) {
    let plain = |sample: &[u8]| zstd::bulk::compress(sample, LEVEL).map_or(sample.len(), |out| out.len());
    let sums = apart.iter().map(|sample| {
        let with = dictionary.compressed_len(LEVEL, sample).unwrap_or(sample.len());
        (plain(sample).min(sample.len()), with.min(sample.len()))
    });
    sums.fold((0, 0), |(plain, with), (p, w)| (plain + p, with + w))
}

/// The payloads of the namespace's entries, as they were before they were compressed.
fn from_store(cache: &Cache, corpus: &mut Corpus, args: &TrainArgs, session: &Session) -> Result<(), Failure> {
    let bar = session.output.bar(u64::from(args.limit));
    let mut cursor: Option<Bytes> = None;
    loop {
        let page = wait(cache.keys(cursor.as_ref()))?;
        for key in &page.keys {
            if corpus.is_full(args.limit) {
                break;
            }
            // Gone, over or not readable since it was listed: no sample.
            if let Ok(Some(entry)) = wait(cache.entry(key))
                && let Ok(payload) = entry.payload()
            {
                corpus.add(&payload);
                bar.inc(1);
            }
        }
        if page.next.is_none() || page.next == cursor || corpus.is_full(args.limit) {
            bar.finish_and_clear();
            return Ok(());
        }
        cursor = page.next;
    }
}

fn from_files(corpus: &mut Corpus, args: &TrainArgs, session: &Session) -> Result<(), Failure> {
    let spinner = session.output.spinner("reading samples");
    let mut pending: Vec<(PathBuf, usize)> = args.paths.iter().rev().map(|path| (path.clone(), 0)).collect();
    while let Some((path, depth)) = pending.pop() {
        if corpus.is_full(args.limit) {
            break;
        }
        let unreadable = |path: &Path| Failure::io(format!("{path:?} cannot be read"));
        let meta = fs::metadata(&path).map_err(unreadable(&path))?;
        if meta.is_dir() {
            if depth == MAX_DEPTH {
                return Err(Failure::Usage(format!("{path:?} is nested more than {MAX_DEPTH} directories deep")));
            }
            let items = fs::read_dir(&path).map_err(unreadable(&path))?;
            let mut items = items.map(|item| item.map(|item| item.path())).collect::<Result<Vec<_>, _>>();
            // In a fixed order, so that the same samples make the same dictionary.
            if let Ok(items) = &mut items {
                items.sort_unstable_by(|a, b| b.cmp(a));
            }
            pending.extend(items.map_err(unreadable(&path))?.into_iter().map(|item| (item, depth + 1)));
        } else if meta.is_file() {
            // Larger ones are left out whatever they hold, and need not be read for it.
            match meta.len() > cachekit::codec::dictionary::DICTIONARY_UP_TO as u64 {
                true => corpus.samples.left_out += 1,
                false => corpus.add(&fs::read(&path).map_err(unreadable(&path))?),
            }
            spinner.set_message(format!("reading samples: {}", corpus.seen));
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

/// Beside its place first and then renamed: a service that starts meanwhile must not read half of it.
fn write(out: &Path, dictionary: &Dictionary) -> Result<(), Failure> {
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || Failure::io(format!("{out:?} cannot be written"));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed())?;
    std::io::Write::write_all(&mut file, dictionary.content()).map_err(failed())?;
    file.persist(out).map_err(|error| failed()(error.error))?;
    Ok(())
}

fn read(file: &Path) -> Result<Dictionary, Failure> {
    let unreadable = || Failure::io(format!("{file:?} cannot be read"));
    let len = fs::metadata(file).map_err(unreadable())?.len();
    if len > MAX_DICTIONARY_BYTES as u64 {
        return Err(Failure::Usage(format!("{file:?} has {len} bytes, a dictionary at most {MAX_DICTIONARY_BYTES}")));
    }
    let content = fs::read(file).map_err(unreadable())?;
    Dictionary::new(content).map_err(|error| Failure::Usage(format!("{file:?}: {error}")))
}

fn install(file: &Path, session: &Session) -> Result<Outcome, Failure> {
    let dictionary = read(file)?;
    let was_new = session.with_cache(|cache| Ok(wait(cache.install_dictionary(&dictionary))?))?;
    let id = dictionary.id().to_string();
    let text = if was_new { format!("{id} installed") } else { format!("{id} was there already") };
    session.output.either(|| json!({ "id": id, "installed": was_new }), &text)?;
    Ok(Outcome::Done)
}

fn list(session: &Session) -> Result<Outcome, Failure> {
    let ids = session.with_cache(|cache| Ok(wait(cache.stored_dictionaries())?))?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    if session.output.is_json() {
        session.output.document(&json!({ "dictionaries": ids }))?;
    } else {
        ids.iter().try_for_each(|id| session.output.line(id))?;
    }
    Ok(Outcome::Done)
}

fn show(which: &str, out: Option<&Path>, session: &Session) -> Result<Outcome, Failure> {
    let (dictionary, from) = match which.parse() {
        Ok(id) => match session.with_cache(|cache| Ok(wait(cache.stored_dictionary(id))?))? {
            Some(dictionary) => (dictionary, "store"),
            None => {
                session.output.only_json(|| json!({ "id": which, "found": false }))?;
                return Ok(Outcome::No);
            }
        },
        Err(_) => (read(which.as_ref())?, "file"),
    };
    if let Some(out) = out {
        write(out, &dictionary)?;
    }
    let document =
        json!({ "id": dictionary.id().to_string(), "bytes": dictionary.content().len(), "from": from, "file": out });
    shown(&document, session)?;
    Ok(Outcome::Done)
}
