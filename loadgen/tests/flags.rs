//! The flags of `ringspoa-loadgen` are those of tests/data/flags-ringspoa-loadgen.txt.

#[path = "../../tests/kept/mod.rs"]
mod kept;
#[path = "../../tests/kept/flags.rs"]
mod list;

#[test]
fn the_flags_are_the_kept_ones() {
    let flags = list::flags(env!("CARGO_BIN_EXE_ringspoa-loadgen"));
    assert!(
        flags
            .iter()
            .any(|flag| flag.starts_with("ringspoa-loadgen run --rate <")),
        "{flags:#?}"
    );
    kept::compare(
        env!("CARGO_MANIFEST_DIR"),
        "flags-ringspoa-loadgen.txt",
        &flags,
        "cargo test -p ringspoa-loadgen --test flags",
    );
}
