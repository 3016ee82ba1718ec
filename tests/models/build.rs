//! Makes the copies of the kernels that `tests/kernels.rs` runs: one sound, one for each mutant. `src/lib.rs` says how to
//! add one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A file of the engine and what is tried on it.
struct Kernel {
    /// Below `cachekit-core/src`.
    file: &'static str,
    /// What is replaced in every copy, wherever it stands; it must stand somewhere.
    replace: &'static [(&'static str, &'static str)],
    /// Functions of `models/NAME.rs`.
    properties: &'static [&'static str],
    mutants: &'static [Mutant],
}

/// A kernel that is broken in one place.
struct Mutant {
    name: &'static str,
    /// The property that must fail.
    breaks: &'static str,
    /// Stands in the file exactly once, after the replacements of the kernel.
    from: &'static str,
    to: &'static str,
}

fn copy(name: &str, kernel: &Kernel, out: &Path, root: &Path) {
    let file = root.join("../../cachekit-core/src").join(kernel.file);
    let model = root.join("models").join(format!("{name}.rs"));
    for watched in [&file, &model] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    let mut sound = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for (from, to) in kernel.replace {
        assert!(sound.contains(from), "{name}: nothing to replace, {from:?} is not in {}", kernel.file);
        sound = sound.replace(from, to);
    }
    let mut variants = String::new();
    let mut put = |variant: &str, text: String| {
        let path = out.join(format!("{name}.{variant}.rs"));
        fs::write(&path, text).expect("the output directory is writable");
        writeln!(variants, "#[path = {path:?}]\nmod {variant};").expect("a string takes everything");
    };
    let test = |property: &str, verdict: &str| {
        format!("#[test]\nfn {verdict}_{property}() {{\n    cachekit_models::{verdict}(model::{property});\n}}\n")
    };
    let model = format!("\n#[path = {model:?}]\nmod model;\n");
    let holds: String = kernel.properties.iter().map(|property| test(property, "holds")).collect();
    put("sound", format!("{sound}{model}{holds}"));
    for Mutant { name: mutant, breaks, from, to } in kernel.mutants {
        assert!(kernel.properties.contains(breaks), "{name}, {mutant}: no property {breaks}");
        let times = sound.matches(from).count();
        assert!(times == 1, "{name}, {mutant}: {from:?} stands {times} times in {}, not once", kernel.file);
        put(mutant, format!("{}{model}{}", sound.replacen(from, to, 1), test(breaks, "fails")));
    }
    fs::write(out.join(format!("{name}.rs")), variants).expect("the output directory is writable");
}

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        mod kernels {
            $(pub(crate) mod $name;)*
        }

        fn main() {
            println!("cargo::rerun-if-changed=build.rs");
            println!("cargo::rerun-if-changed=kernels");
            let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
            let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
            $(copy(stringify!($name), &kernels::$name::KERNEL, &out, &root);)*
        }
    };
}

kernels!(breaker, bulkhead, flight, generations, slack);
