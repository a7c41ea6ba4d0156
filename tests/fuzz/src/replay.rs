//! Puts the committed inputs through their targets. Included by the tests of both packages.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Target = fn(&[u8]);

/// Runs every input in `fuzz/corpus` of these targets. `fuzz` is the folder tests/fuzz.
pub fn replay(fuzz: &Path, targets: &[(&str, Target)]) {
    for (name, target) in targets {
        assert!(
            fuzz.join(format!("src/bin/{name}.rs")).exists(),
            "{name} is not fuzzed: src/bin has no such file"
        );
        let folder = fuzz.join("corpus").join(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a folder can be listed").path();
            let bytes = fs::read(&path).expect("an input can be read");
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&bytes))) {
                eprintln!("target {name}, input {}", path.display());
                std::panic::resume_unwind(panic);
            }
            count += 1;
        }
        assert!(count > 0, "{folder:?} is empty");
        // What no file holds: nothing, and every single byte.
        target(&[]);
        for byte in 0..=u8::MAX {
            target(&[byte]);
        }
    }
}

/// The names of the files in `src/bin`.
pub fn fuzzed(fuzz: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(fuzz.join("src/bin")).expect("the targets are there");
    let name = |file: std::io::Result<fs::DirEntry>| {
        let path = file.expect("a folder can be listed").path();
        let stem = path.file_stem().expect("a file has a name");
        stem.to_string_lossy().into_owned()
    };
    files.map(name).collect()
}
