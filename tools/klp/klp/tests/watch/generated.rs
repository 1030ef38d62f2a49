// SPDX-License-Identifier: GPL-2.0

//! Completions and manual pages, which the packages contain.

use std::fs;

use super::{klp, output, Tree};

#[test]
fn completions() {
    for (shell, sign) in [
        ("bash", "complete -F _klp"),
        ("zsh", "#compdef klp"),
        ("fish", "complete -c klp"),
    ] {
        let script = output(&Tree::new(), &["completions", shell]);
        assert!(script.contains(sign), "{shell}");
        assert!(script.contains("status"), "{shell}");
    }
    assert_eq!(klp(&Tree::new(), &["completions", "cmd"]).status, Some(2));
}

#[test]
fn manual_pages() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    assert_eq!(
        output(&Tree::new(), &["manpages", pages.to_str().unwrap()]),
        ""
    );
    let page = fs::read_to_string(pages.join("klp-status.1")).unwrap();
    assert!(page.contains(".TH klp-status 1"), "{page}");
    assert!(page.contains("verbose"), "{page}");
    assert!(pages.join("klp.1").exists());
    // Hidden ones are for packaging.
    assert!(!pages.join("klp-manpages.1").exists());

    let run = klp(&Tree::new(), &["manpages", "/proc/none"]);
    assert_eq!(run.status, Some(1));
    assert!(
        run.message.starts_with("klp: /proc/none: "),
        "{}",
        run.message
    );
}
