//! The rules of the source that no compiler checks. Each is a function from a file to complaints,
//! and each is shown here to complain.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The rings, innermost first; a module may use those before it and its own. `fault` and `config`
/// are leaves between the rings; `config` holds what dialects are told, and names dialects.
const RINGS: &[&[&str]] = &[
    &["wire"],
    &["fault"],
    &["dialect", "config"],
    &["transcode"],
    &["proxy"],
    &["reactor"],
    &["mock"],
    &["bench"],
    &["cli"],
    &["main"],
];

/// The dialects; nothing but their table in `dialect/mod.rs` names them.
const DIALECTS: &[&str] = &["chat", "gigachat", "responses"];

/// What only the outer rings may touch: everything else gets time and bytes as arguments.
const OUTSIDE: &[&str] =
    &["Instant::now", "SystemTime::now", "std::thread", "mio::", "std::process", "std::env"];

/// Lines of one source file, without the test module that ends it.
const LINES_MAX: usize = 700;

/// Characters of one line, where `rustfmt` did not break it.
const COLUMNS_MAX: usize = 160;

/// The module of the first level that `path` (below `src/`) belongs to.
fn module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// `text` without the inline test module that ends a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// `text` without comments and tests.
fn code(text: &str) -> String {
    let lines = without_tests(text).lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.fold(String::new(), |mut code, line| {
        code.push_str(line);
        code.push('\n');
        code
    })
}

/// The words behind every `prefix` in `code`.
fn words_behind<'c>(code: &'c str, prefix: &'c str) -> impl Iterator<Item = &'c str> {
    code.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn ring(module: &str) -> Option<usize> {
    RINGS.iter().position(|ring| ring.contains(&module))
}

fn imports_point_inwards(path: &str, text: &str, complaints: &mut String) {
    if let Some(own) = ring(module(path)) {
        let code = code(text);
        for used in words_behind(&code, "crate::").chain(words_behind(&code, "patchbay::")) {
            if ring(used).is_some_and(|used| used > own) {
                let _ = writeln!(complaints, "{path}: uses the outer ring `{used}`");
            }
        }
    }
}

fn dialects_stay_apart(path: &str, text: &str, complaints: &mut String) {
    let own = path.strip_prefix("dialect/").map_or("", module);
    let code = code(text);
    for prefix in ["dialect::", "super::"] {
        for used in words_behind(&code, prefix) {
            let named = DIALECTS.contains(&used) && used != own;
            if named && (prefix == "dialect::" || path.starts_with("dialect/")) {
                let _ = writeln!(complaints, "{path}: names the dialect `{used}`");
            }
        }
    }
}

fn the_outside_stays_outside(path: &str, text: &str, complaints: &mut String) {
    if matches!(module(path), "reactor" | "mock" | "bench" | "main" | "cli") {
        return;
    }
    let code = code(text);
    for word in OUTSIDE.iter().filter(|word| code.contains(**word)) {
        let _ = writeln!(complaints, "{path}: touches `{word}`");
    }
}

fn files_stay_readable(path: &str, text: &str, complaints: &mut String) {
    let lines = without_tests(text).lines().count();
    if lines > LINES_MAX {
        let _ = writeln!(complaints, "{path}: {lines} lines, split it by concern");
    }
    for (number, line) in text.lines().enumerate() {
        if line.chars().count() > COLUMNS_MAX && !is_test(path) && !line.contains("r#\"") {
            let _ = writeln!(complaints, "{path}:{}: a line too long to read", number + 1);
        }
    }
}

fn nothing_is_left_undone(path: &str, text: &str, complaints: &mut String) {
    for word in ["TODO", "FIXME"] {
        if text.contains(word) {
            let _ = writeln!(complaints, "{path}: has `{word}`");
        }
    }
    if text.contains("#[ignore") {
        let _ = writeln!(complaints, "{path}: has a test that never runs");
    }
}

fn each_rule(path: &str, text: &str, complaints: &mut String) {
    if !is_test(path) && module(path) != "fuzzing" {
        imports_point_inwards(path, text, complaints);
        dialects_stay_apart(path, text, complaints);
        the_outside_stays_outside(path, text, complaints);
    }
    files_stay_readable(path, text, complaints);
    nothing_is_left_undone(path, text, complaints);
}

/// Calls `each` with every Rust file below `folder`: its path from there, and its text.
fn walk(folder: &Path, below: &str, each: &mut dyn FnMut(&str, &str)) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{path}/"), each);
        } else if path.ends_with(".rs") {
            each(&path, &fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn the_source_is_tidy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut complaints, mut files) = (String::new(), 0);
    walk(&src, "", &mut |path, text| {
        each_rule(path, text, &mut complaints);
        files += 1;
    });
    assert!(files > 20, "only {files} files found");
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn every_module_has_its_ring() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    walk(&src, "", &mut |path, _| {
        let known = ring(module(path)).is_some() || matches!(module(path), "lib" | "fuzzing");
        assert!(known, "{path} belongs to no ring");
    });
}

#[test]
fn every_rule_can_fail() {
    let long = "x".repeat(COLUMNS_MAX + 1);
    let many = "\n".repeat(LINES_MAX + 1);
    // A file, its text, and what is said about it; nothing when it is fine.
    let cases: &[(&str, &str, &str)] = &[
        ("wire/sse.rs", "use crate::dialect::event;", "uses the outer ring `dialect`"),
        ("wire/sse.rs", "use crate::fault::Fault;", "uses the outer ring `fault`"),
        ("wire/sse.rs", "use crate::wire::json;", ""),
        ("dialect/chat.rs", "fn f() { crate::proxy::x() }", "uses the outer ring `proxy`"),
        ("dialect/chat.rs", "use crate::fault::Fault;\n// crate::proxy", ""),
        ("dialect/chat.rs", "use crate::config::Config;", ""),
        ("config/mod.rs", "use crate::dialect::Dialect;", ""),
        ("transcode.rs", "use crate::proxy::net;", "uses the outer ring `proxy`"),
        ("config/mod.rs", "use crate::transcode::Form;", "uses the outer ring `transcode`"),
        ("proxy/worker.rs", "use crate::reactor::poll;", "uses the outer ring `reactor`"),
        ("proxy/worker.rs", "#[cfg(test)]\nmod tests {\n use crate::reactor;\n}", ""),
        ("proxy/worker.rs", "#[cfg(test)]\nmod tests;\nuse crate::reactor;", "outer ring"),
        ("reactor/poll.rs", "use patchbay::cli::run;", "uses the outer ring `cli`"),
        ("main.rs", "use patchbay::reactor::drive;", ""),
        ("dialect/chat/mod.rs", "use crate::dialect::responses;", "names the dialect `responses`"),
        ("dialect/responses.rs", "use super::chat::Chat;", "names the dialect `chat`"),
        ("dialect/chat/encode.rs", "use crate::dialect::chat::Chat;", ""),
        ("proxy/worker.rs", "use crate::dialect::chat;", "names the dialect `chat`"),
        ("proxy/worker.rs", "let now = Instant::now();", "touches `Instant::now`"),
        ("proxy/worker.rs", "std::thread::sleep(x)", "touches `std::thread`"),
        ("wire/json.rs", "std::env::var(x)", "touches `std::env`"),
        ("dialect/ids.rs", "std::process::id()", "touches `std::process`"),
        ("proxy/net.rs", "use mio::Poll;", "touches `mio::`"),
        ("config/mod.rs", "SystemTime::now()", "touches `SystemTime::now`"),
        ("reactor/poll.rs", "let now = Instant::now();\nuse mio::Poll;", ""),
        ("wire/json.rs", &long, "too long to read"),
        ("wire/json.rs", &many, "lines, split it"),
        ("wire/json.rs", "// TODO later", "has `TODO`"),
        ("wire/json.rs", "fn f() {} // FIXME", "has `FIXME`"),
        ("wire/json/tests.rs", "#[ignore = \"slow\"]", "never runs"),
    ];
    for (path, text, expected) in cases {
        let mut complaints = String::new();
        each_rule(path, text, &mut complaints);
        assert!(complaints.contains(expected), "{path}: {text:?} gives {complaints:?}");
        assert_eq!(complaints.is_empty(), expected.is_empty(), "{path}: {complaints}");
    }
}
