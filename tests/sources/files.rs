//! Files that come, change, break and go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use ringspoa::agents::remediation::{OnBadRecord, Remediation};
use ringspoa::sources::{FileFormat, FilesConfig, SourceConfig, Sources, SourcesConfig};

use super::stub::{Folder, PATIENCE, is_banned, start, status, wait_until};

/// Looked at often, so that tests are short.
fn quick(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> FilesConfig {
    let mut config = FilesConfig::new(paths);
    config.poll_every = Duration::from_millis(20);
    config
}

fn watch(config: FilesConfig) -> Sources {
    start(vec![SourceConfig::new("lists", config)])
}

/// Several looks take place.
fn a_while() {
    std::thread::sleep(Duration::from_millis(200));
}

#[test]
fn files_of_all_formats_are_read_before_the_start_returns() {
    let folder = Folder::new();
    folder.write("list.txt", "192.0.2.1\n198.51.100.0/24 # range\n");
    folder.write("list.csv", "value,type\n192.0.2.2,captcha\n");
    folder.write(
        "list.json",
        r#"[{"value":"192.0.2.3","type":"ban","duration":"4h"}]"#,
    );
    folder.write("README", "not a list");
    folder.write(".hidden.txt", "not a list");
    folder.write("list.txt~", "not a list");
    fs::create_dir(folder.path().join("below.txt")).unwrap();
    let sources = watch(quick([folder.path()]));
    assert!(sources.ready() && sources.wait_ready(PATIENCE));
    for address in ["192.0.2.1", "198.51.100.77", "192.0.2.3"] {
        assert!(is_banned(&sources, address), "{address}");
    }
    let snapshot = sources.snapshots().current();
    let captcha = snapshot.lookup("192.0.2.2".parse().unwrap()).unwrap();
    assert_eq!(captcha.remediation(), Remediation::Captcha);
    assert_eq!(captcha.origin(), "list.csv");
    let status = status(&sources);
    assert_eq!(status.files.len(), 3);
    let counts: Vec<_> = status
        .files
        .iter()
        .map(|file| file.decision_count)
        .collect();
    assert_eq!(counts, [1, 1, 2], "{:?}", status.files);
}

#[test]
fn a_file_that_changes_is_replaced_as_a_whole() {
    let folder = Folder::new();
    let list = folder.write("list", "192.0.2.1\n192.0.2.2\n");
    let other = folder.write("other", "192.0.2.1\n");
    let sources = watch(quick([&list, &other]));
    folder.write("list", "192.0.2.2\n192.0.2.3\n");
    wait_until("it is read", || is_banned(&sources, "192.0.2.3"));
    assert!(is_banned(&sources, "192.0.2.1"), "by the other file");
    folder.write("other", "");
    wait_until("it is read", || !is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.2"));
    // By another file in its place, of the same length.
    let new = folder.write("list.new", "192.0.2.2\n192.0.2.4\n");
    fs::rename(new, &list).unwrap();
    wait_until("it is read", || is_banned(&sources, "192.0.2.4"));
    assert!(!is_banned(&sources, "192.0.2.3"));
}

#[test]
fn a_broken_file_keeps_what_was_good() {
    let folder = Folder::new();
    let list = folder.write("list.txt", "192.0.2.1\n");
    folder.write("other.txt", "192.0.2.2\n");
    let sources = watch(quick([folder.path()]));
    folder.write("list.txt", "192.0.2.3\nnonsense\n");
    wait_until("it is noticed", || status(&sources).is_failing);
    let failing = status(&sources);
    let text = failing.last_failure.unwrap().text;
    for part in ["list.txt", "line 2", "'nonsense'"] {
        assert!(text.contains(part), "{text}");
    }
    let file = failing.files.iter().find(|file| file.path == list).unwrap();
    assert!(file.error.as_ref().unwrap().contains("line 2"));
    assert_eq!(file.decision_count, 1, "what is in force");
    a_while();
    assert_eq!(
        status(&sources).failure_count,
        failing.failure_count,
        "once a change"
    );
    assert!(status(&sources).is_failing, "until it is mended");
    assert!(is_banned(&sources, "192.0.2.1") && !is_banned(&sources, "192.0.2.3"));
    // Another file still changes meanwhile.
    folder.write("other.txt", "192.0.2.4\n");
    wait_until("it is read", || is_banned(&sources, "192.0.2.4"));
    assert!(status(&sources).is_failing);
    folder.write("list.txt", "192.0.2.3\n");
    wait_until("it is read", || is_banned(&sources, "192.0.2.3"));
    wait_until("all is well", || !status(&sources).is_failing);
    assert!(!is_banned(&sources, "192.0.2.1"));
    assert!(
        status(&sources)
            .files
            .iter()
            .all(|file| file.error.is_none())
    );
}

#[test]
fn bad_records_are_passed_over_where_that_is_wanted() {
    let folder = Folder::new();
    let list = folder.write("list", "192.0.2.1\nnonsense\n");
    let mut config = quick([list]);
    config.on_bad = OnBadRecord::Skip;
    let sources = watch(config);
    assert!(is_banned(&sources, "192.0.2.1"));
    assert_eq!(status(&sources).bad_count, 1);
    assert!(!status(&sources).is_failing);
}

#[test]
fn files_of_a_directory_come_and_go() {
    let folder = Folder::new();
    let sources = watch(quick([folder.path()]));
    assert!(sources.ready(), "an empty directory is none too few");
    for round in 0..3 {
        let list = folder.write("list.txt", "192.0.2.1\n");
        wait_until("it is read", || is_banned(&sources, "192.0.2.1"));
        folder.write(
            &format!("more-{round}.txt"),
            &format!("192.0.2.{}\n", 10 + round),
        );
        fs::remove_file(list).unwrap();
        wait_until("it goes", || !is_banned(&sources, "192.0.2.1"));
    }
    wait_until("the others are there", || {
        (10..13).all(|last| is_banned(&sources, &format!("192.0.2.{last}")))
    });
    assert_eq!(status(&sources).files.len(), 3);
}

/// More files one after the other than a table has numbers for sources.
#[test]
fn numbers_of_files_that_are_gone_are_used_again() {
    let folder = Folder::new();
    let sources = watch(quick([folder.path()]));
    for round in 0..10 {
        for index in 0..30 {
            let name = format!("list-{round}-{index}.txt");
            folder.write(&name, &format!("192.0.{round}.{index}\n"));
        }
        wait_until("all are read", || {
            sources.snapshots().current().count() == 30
        });
        for index in 0..30 {
            fs::remove_file(folder.path().join(format!("list-{round}-{index}.txt"))).unwrap();
        }
        wait_until("all go", || sources.snapshots().current().count() == 0);
    }
    assert!(!status(&sources).is_failing);
}

#[test]
fn more_files_than_there_are_numbers_for_are_named() {
    let folder = Folder::new();
    let sources = watch(quick([folder.path()]));
    for index in 0..257 {
        folder.write(
            &format!("list-{index:03}.txt"),
            &format!("192.0.{}.{}\n", index / 256, index % 256),
        );
    }
    wait_until("it is noticed", || status(&sources).is_failing);
    let text = status(&sources).last_failure.unwrap().text;
    assert!(
        text.contains("256 sources") && text.contains("list-"),
        "{text}"
    );
    wait_until("the others are read", || {
        sources.snapshots().current().count() == 256
    });
}

#[test]
fn what_is_away_for_a_while_is_not_taken_for_empty() {
    let folder = Folder::new();
    let lists = folder.path().join("lists");
    fs::create_dir(&lists).unwrap();
    let (inside, alone) = (lists.join("list.txt"), folder.path().join("alone"));
    fs::write(&inside, "192.0.2.1\n").unwrap();
    fs::write(&alone, "192.0.2.2\n").unwrap();
    let sources = watch(quick([&lists, &alone]));
    let away = folder.path().join("away");
    fs::rename(&lists, &away).unwrap();
    fs::remove_file(&alone).unwrap();
    wait_until("it is noticed", || status(&sources).is_failing);
    let text = status(&sources).last_failure.unwrap().text;
    assert!(text.contains("lists") || text.contains("alone"), "{text}");
    a_while();
    assert!(is_banned(&sources, "192.0.2.1") && is_banned(&sources, "192.0.2.2"));
    fs::rename(&away, &lists).unwrap();
    fs::write(&alone, "192.0.2.3\n").unwrap();
    wait_until("it is read", || is_banned(&sources, "192.0.2.3"));
    wait_until("all is well", || !status(&sources).is_failing);
    assert!(is_banned(&sources, "192.0.2.1") && !is_banned(&sources, "192.0.2.2"));
}

/// As Kubernetes changes the files of a ConfigMap: by a link to the folder that all of them are in.
#[test]
fn links_to_another_folder() {
    let folder = Folder::new();
    let version = |name: &str, text: &str| {
        let below = folder.path().join(name);
        fs::create_dir(&below).unwrap();
        fs::write(below.join("list.txt"), text).unwrap();
    };
    version("..1", "192.0.2.1\n");
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/list.txt", folder.path().join("list.txt")).unwrap();
    let sources = watch(quick([folder.path()]));
    assert!(is_banned(&sources, "192.0.2.1"));
    version("..2", "192.0.2.2\n");
    symlink("..2", folder.path().join("..new")).unwrap();
    fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    fs::remove_dir_all(folder.path().join("..1")).unwrap();
    wait_until("it is read", || is_banned(&sources, "192.0.2.2"));
    assert!(!is_banned(&sources, "192.0.2.1"));
    assert!(!status(&sources).is_failing);
}

#[test]
fn reloading_does_not_wait_for_the_next_look() {
    let folder = Folder::new();
    let list = folder.write("list", "192.0.2.1\n");
    let mut config = quick([list]);
    config.poll_every = Duration::from_secs(3_600);
    let sources = watch(config);
    folder.write("list", "192.0.2.2\n");
    a_while();
    assert!(!is_banned(&sources, "192.0.2.2"));
    sources.reload();
    wait_until("it is read", || is_banned(&sources, "192.0.2.2"));
}

#[test]
fn a_file_that_is_written_is_not_read_until_it_is_whole() {
    use std::io::Write;
    let folder = Folder::new();
    let list = folder.write("list", "192.0.2.1\n");
    let mut config = quick([&list]);
    config.poll_every = Duration::from_millis(150);
    let sources = watch(config);
    let mut file = fs::File::create(&list).unwrap();
    // Faster than two looks, and never a whole line.
    for index in 0..40 {
        write!(file, "{}192.0.2.2", if index == 0 { "" } else { "\n" }).unwrap();
        std::thread::sleep(Duration::from_millis(15));
        let count = sources.snapshots().current().count();
        assert!(count == 1 && is_banned(&sources, "192.0.2.1"), "{count}");
    }
    writeln!(file, "55").unwrap();
    drop(file);
    wait_until("it is read", || is_banned(&sources, "192.0.2.255"));
}

#[test]
fn a_file_that_cannot_be_used_at_the_start_names_the_source() {
    let folder = Folder::new();
    let bad = folder.write("bad.txt", "192.0.2.1\nnonsense\n");
    let missing = folder.path().join("missing");
    let refused = |config: FilesConfig| {
        let config = SourcesConfig {
            sources: vec![SourceConfig::new("lists", config)],
            ..SourcesConfig::default()
        };
        Sources::check(config.clone()).unwrap_err();
        Sources::start(config).unwrap_err().to_string()
    };
    let text = refused(quick([&bad]));
    for part in ["source 'lists'", "bad.txt", "line 2", "'nonsense'"] {
        assert!(text.contains(part), "{text}");
    }
    let text = refused(quick([&missing]));
    assert!(
        text.contains("source 'lists'") && text.contains("missing"),
        "{text}"
    );
    let text = refused(quick([PathBuf::from("/dev/null")]));
    assert!(text.contains("neither a file nor a directory"), "{text}");
    let text = refused(quick(Vec::<PathBuf>::new()));
    assert!(text.contains("no file and no directory"), "{text}");

    let mut optional = quick([&missing]);
    optional.is_required = false;
    let sources = watch(optional);
    assert!(!sources.ready() && status(&sources).is_failing);
    fs::write(&missing, "192.0.2.1\n").unwrap();
    assert!(sources.wait_ready(PATIENCE));
    assert!(is_banned(&sources, "192.0.2.1"));
}

#[test]
fn a_format_that_is_set_is_for_all_files() {
    let folder = Folder::new();
    folder.write("decisions", "192.0.2.1,captcha\n");
    let mut config = quick([folder.path()]);
    config.format = Some(FileFormat::Csv);
    config.origin = Some("mine".to_owned());
    let sources = watch(config);
    let snapshot = sources.snapshots().current();
    let found = snapshot.lookup("192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!((found.word(), found.origin()), ("captcha", "mine"));
}

#[test]
fn an_allow_list_holds_against_all_and_a_priority_against_lower_ones() {
    let folder = Folder::new();
    let bans = folder.write("bans", "192.0.2.0/24\n");
    let allowed = folder.write("allowed", "192.0.2.1\n");
    let mut friends = quick([allowed]);
    friends.remediation = "allow".to_owned();
    let mut allow_list = SourceConfig::new("allowed", friends);
    allow_list.is_allow_list = true;
    let mut high = SourceConfig::new("bans", quick([bans]));
    high.priority = 9;
    let sources = start(vec![high, allow_list]);
    assert!(!is_banned(&sources, "192.0.2.1") && is_banned(&sources, "192.0.2.2"));
}
