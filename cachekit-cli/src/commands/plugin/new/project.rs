//! The files of a new project: templates with their marks filled in, written where nothing is overwritten.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::name::Name;
use super::sdk::{Sdk, quoted};
use crate::cli::scaffold::Lang;
use crate::exit::Failure;

/// Where a file of the project goes, and its template.
type Template = (&'static str, &'static str);

macro_rules! templates {
    ($($path:literal from $file:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $file)))),*]
    };
}

const RUST: &[Template] = templates! {
    "Cargo.toml" from "rust/Cargo.toml.in",
    "src/lib.rs" from "rust/lib.rs",
    "src/config.rs" from "rust/config.rs",
    "src/store.rs" from "rust/store.rs",
    "src/backend.rs" from "rust/backend.rs",
    "tests/conformance.rs" from "rust/conformance.rs",
    "README.md" from "rust/README.md",
    "LICENSE" from "LICENSE",
    "cachekit.toml" from "cachekit.toml",
    ".gitignore" from "rust/gitignore",
    ".github/workflows/ci.yml" from "rust/ci.yml",
};

const C: &[Template] = templates! {
    "Makefile" from "c/Makefile",
    "plugin.c" from "c/plugin.c",
    "store.h" from "c/store.h",
    "store.c" from "c/store.c",
    "options.h" from "c/options.h",
    "options.c" from "c/options.c",
    "test.c" from "c/test.c",
    "export.map" from "c/export.map",
    "README.md" from "c/README.md",
    "LICENSE" from "LICENSE",
    "cachekit.toml" from "cachekit.toml",
    ".gitignore" from "c/gitignore",
    ".github/workflows/ci.yml" from "c/ci.yml",
};

/// The contract in C.
const HEADER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../cachekit-abi/include/cachekit_plugin.h"));
/// Where a checkout has it.
const HEADER_IN_CHECKOUT: &str = "cachekit-abi/include/cachekit_plugin.h";

/// Said by the CI of a project that cannot know where cachekit will be.
const NO_GIT: &str = "set the variable CACHEKIT_GIT of this repository to the URL of cachekit's git repository";

/// A project that is not written yet.
#[derive(Debug)]
pub(super) struct Project {
    lang: Lang,
    library: String,
    files: Vec<(&'static str, String)>,
}

impl Project {
    pub(super) fn new(name: &Name, lang: Lang, sdk: Option<&Sdk>, dir: &Path) -> Result<Self, Failure> {
        let library = match lang {
            Lang::Rust => format!("target/release/lib{}.so", name.crate_name()),
            Lang::C => format!("{}.so", name.id()),
        };
        let installed = dir.join(&library);
        let installed = installed.to_str().filter(|path| !path.contains(char::is_control));
        let installed = installed.ok_or_else(|| {
            Failure::Usage(format!("{dir:?}: a path in a configuration is text without control characters"))
        })?;
        let dependency = |folder| sdk.map(|sdk| sdk.dependency(folder)).unwrap_or_default();
        let ci = Ci::new(lang, sdk);
        let marks = [
            ("__NAME__", name.id().to_owned()),
            ("__ID__", name.id().to_owned()),
            ("__PACKAGE__", name.package()),
            ("__CRATE__", name.crate_name()),
            ("__LIBRARY__", library.clone()),
            ("__INSTALLED__", quoted(installed)),
            ("__SDK_PLUGIN__", dependency("cachekit-plugin")),
            ("__SDK_CONFORMANCE__", dependency("tests/conformance")),
            ("__SDK_WORDS__", sdk.map(|sdk| format!("`{}`", sdk.place())).unwrap_or_default()),
            ("__CACHEKIT_GIT__", ci.git),
            ("__CI_SDK__", ci.sdk),
            ("__CI_PROGRAM__", ci.program),
        ];
        let templates = match lang {
            Lang::Rust => RUST,
            Lang::C => C,
        };
        let mut files: Vec<_> = templates.iter().map(|(path, text)| (*path, filled(text, &marks))).collect();
        if lang == Lang::C {
            let header = sdk.and_then(Sdk::root).map(|root| {
                let path = root.join(HEADER_IN_CHECKOUT);
                std::fs::read_to_string(&path).map_err(Failure::io(format!("{path:?} cannot be read")))
            });
            files.push(("cachekit_plugin.h", header.unwrap_or_else(|| Ok(HEADER.to_owned()))?));
        }
        Ok(Self { lang, library, files })
    }

    /// The library, below the folder of the project.
    pub(super) fn library(&self) -> &str {
        &self.library
    }

    /// What is written, in this order.
    pub(super) fn files(&self) -> Vec<&'static str> {
        self.files.iter().map(|(path, _)| *path).collect()
    }

    /// What to type then, in a shell that stands where the command was given.
    pub(super) fn next_steps(&self, dir: &Path, others_may_write: bool) -> Vec<String> {
        let mut steps = vec![format!("cd {}", in_shell(&dir.to_string_lossy()))];
        match self.lang {
            Lang::Rust => {
                // What cargo makes under such a umask no host would load. A Makefile can say that itself.
                steps.extend(others_may_write.then(|| "umask 022".to_owned()));
                steps.push("cargo build --release".to_owned());
            }
            Lang::C => steps.push("make".to_owned()),
        }
        steps.push(format!("cachekit plugin test ./{}", self.library));
        steps.push("cachekit --config cachekit.toml health".to_owned());
        steps
    }

    /// Writes everything, and says whether the umask lets others write to new files. A folder that was made for it goes again
    /// if something fails.
    pub(super) fn write(&self, folder: &Folder) -> Result<bool, Failure> {
        let written = self.files.iter().try_fold(0, |modes, (path, text)| {
            let path = folder.path.join(path);
            let mode = write_new(&path, text).map_err(Failure::io(format!("{path:?} cannot be written")))?;
            Ok(modes | mode)
        });
        if written.is_err() {
            folder.discard();
        }
        written.map(|modes| modes & 0o022 != 0)
    }
}

/// Writes a file that is not there, and says which mode it got.
fn write_new(path: &Path, text: &str) -> io::Result<u32> {
    if let Some(parent) = path.parent() {
        private_dir().recursive(true).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file.metadata()?.mode())
}

/// Not writable by a group, whatever the umask says: hosts refuse libraries below such a folder.
fn private_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    builder
}

/// Where a project goes.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_new: bool,
}

impl Folder {
    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a folder back that was made for a project that came to nothing.
    pub(super) fn discard(&self) {
        if self.is_new {
            // What failed first is what is told.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes the folder, or takes one that is empty.
pub(super) fn folder(dir: &Path) -> Result<Folder, Failure> {
    let is_new = match private_dir().create(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_empty = std::fs::read_dir(dir).map(|mut items| items.next().is_none());
            if !is_empty.unwrap_or(false) {
                return Err(Failure::Usage(format!(
                    "{dir:?} is there already and is no empty folder; nothing is overwritten, choose another with --dir"
                )));
            }
            false
        }
        Err(error) => return Err(Failure::io(format!("the folder {dir:?} cannot be made"))(error)),
    };
    let path = dir.canonicalize().map_err(Failure::io(format!("{dir:?} cannot be found")))?;
    Ok(Folder { path, is_new })
}

/// What the workflow of the project does to have cachekit.
struct Ci {
    git: String,
    sdk: String,
    program: String,
}

impl Ci {
    fn new(lang: Lang, sdk: Option<&Sdk>) -> Self {
        let step = |name: &str, lines: &[String]| {
            let head = format!("      - name: {name}\n        run: |\n");
            lines.iter().fold(head, |step, line| format!("{step}          {line}\n"))
        };
        let known = format!("test -n \"$CACHEKIT_GIT\" || {{ echo \"::error::{NO_GIT}\"; exit 1; }}");
        let variable = "${{ vars.CACHEKIT_GIT }}".to_owned();
        match (lang, sdk) {
            (_, Some(Sdk::Git { url, state })) => {
                let state = state.as_ref().map(|(what, state)| format!(" --{what} {}", in_shell(state)));
                let program = format!("--git {}{} cachekit-cli", in_shell(url), state.unwrap_or_default());
                Self { git: quoted(url), sdk: String::new(), program }
            }
            (Lang::Rust, Some(Sdk::Path(root))) => {
                let (place, program) = (in_shell(root), in_shell(&format!("{root}/cachekit-cli")));
                let lines = [
                    known,
                    format!("sudo install -d -o \"$(id -u)\" {place}"),
                    format!("git clone --depth 1 \"$CACHEKIT_GIT\" {place}"),
                ];
                let sdk = step("The SDK, where Cargo.toml looks for it", &lines);
                Self { git: variable, sdk, program: format!("--path {program}") }
            }
            _ => Self {
                git: variable,
                sdk: step("Where cachekit comes from", &[known]),
                program: "--git \"$CACHEKIT_GIT\" cachekit-cli".into(),
            },
        }
    }
}

/// A word of a shell.
fn in_shell(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with(['~', '-']) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A template with its marks replaced, in one pass: what is filled in is not looked at again.
fn filled(template: &str, marks: &[(&str, String)]) -> String {
    let (mut text, mut rest) = (String::with_capacity(template.len() + 256), template);
    while let Some(at) = rest.find("__") {
        let (before, tail) = rest.split_at(at);
        text.push_str(before);
        let mark = marks.iter().find(|(mark, _)| tail.starts_with(mark));
        let (put, taken) = mark.map_or(("__", 2), |(mark, value)| (value.as_str(), mark.len()));
        text.push_str(put);
        rest = &tail[taken..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(lang: Lang, sdk: Option<&Sdk>) -> Project {
        let name = Name::parse("acme.key-shelf", lang).unwrap();
        Project::new(&name, lang, sdk, Path::new("/home/a b/shelf")).unwrap()
    }

    fn file<'a>(project: &'a Project, path: &str) -> &'a str {
        &project.files.iter().find(|(name, _)| *name == path).unwrap().1
    }

    #[test]
    fn no_mark_is_left() {
        let path = Sdk::Path("/src/cachekit".into());
        let git = Sdk::parse("https://host/cachekit?tag=v1".as_ref()).unwrap();
        for project in [project(Lang::Rust, Some(&path)), project(Lang::Rust, Some(&git)), project(Lang::C, None)] {
            for (path, text) in &project.files {
                if *path == "cachekit_plugin.h" {
                    continue;
                }
                let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
                let left: Vec<&str> = words.filter(|word| word.starts_with("__") && word.ends_with("__")).collect();
                let left: Vec<&&str> = left.iter().filter(|word| !["__FILE__", "__LINE__"].contains(word)).collect();
                assert!(left.is_empty(), "{path}: {left:?}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let marks = [("__A__", "__B__".to_owned()), ("__B__", "b".to_owned())];
        assert_eq!(filled("__A__ __B__ __FILE__ ____B__", &marks), "__B__ b __FILE__ __b");
    }

    #[test]
    fn the_manifest_and_the_workflow_know_where_the_sdk_is() {
        let checkout = project(Lang::Rust, Some(&Sdk::Path("/src/cache kit".into())));
        let manifest = file(&checkout, "Cargo.toml");
        assert!(manifest.contains("name = \"acme-key-shelf\"\n"), "{manifest}");
        assert!(manifest.contains("cachekit-plugin = { path = \"/src/cache kit/cachekit-plugin\" }\n"), "{manifest}");
        let workflow = file(&checkout, ".github/workflows/ci.yml");
        assert!(workflow.contains("git clone --depth 1 \"$CACHEKIT_GIT\" '/src/cache kit'\n"), "{workflow}");
        let git = project(Lang::Rust, Some(&Sdk::parse("https://host/cachekit?tag=v1".as_ref()).unwrap()));
        let workflow = file(&git, ".github/workflows/ci.yml");
        let install = "cargo install --locked --git https://host/cachekit --tag v1 cachekit-cli\n";
        assert!(workflow.contains(install) && !workflow.contains("git clone"), "{workflow}");
        let c = project(Lang::C, None);
        assert!(file(&c, ".github/workflows/ci.yml").contains("vars.CACHEKIT_GIT"));
        assert_eq!(file(&c, "cachekit_plugin.h"), HEADER);
        assert!(file(&c, "cachekit.toml").contains("path = \"/home/a b/shelf/acme.key-shelf.so\"\n"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let taken = home.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let project = project(Lang::C, None);
        let empty = folder(&taken).unwrap();
        std::fs::write(taken.join("plugin.c"), "mine").unwrap();
        assert!(folder(&taken).unwrap_err().to_string().contains("nothing is overwritten"));
        // A file that came meanwhile.
        assert!(project.write(&empty).is_err());
        assert_eq!(std::fs::read_to_string(taken.join("plugin.c")).unwrap(), "mine");
        // A new folder goes again when the project could not be written into it.
        let fresh = folder(&home.path().join("fresh")).unwrap();
        std::fs::write(home.path().join("fresh/test.c"), "in the way").unwrap();
        assert!(project.write(&fresh).is_err() && !home.path().join("fresh").exists());
    }

    #[test]
    fn words_of_a_shell_are_quoted_where_they_have_to_be() {
        assert_eq!(in_shell("./acme.shelf"), "./acme.shelf");
        assert_eq!(in_shell("a b"), "'a b'");
        assert_eq!(in_shell("it's"), r"'it'\''s'");
        assert_eq!(in_shell("-x"), "'-x'");
    }
}
