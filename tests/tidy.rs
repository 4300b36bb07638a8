//! The rules of the house that neither the compiler nor clippy can hold: which way imports point, where actix may be known, how pure the core is.
//! Each rule is tried on bad examples below, so that it can't rot into one that finds nothing.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::Path;

/// One file of the repository: its path from the root, its text, and its code without comments and literals.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    code: String,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &'a str) -> File<'a> {
        let code = if path.ends_with(".rs") { code_only(text) } else { String::new() };
        File { path, text, code }
    }

    /// The module of the library that the file belongs to: `block` for `src/block/range.rs`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        inside.split('/').next()
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// A rule looks at one file and names the line (from 1) and the fault.
type Rule = fn(&File) -> Vec<(usize, String)>;

const RULES: &[Rule] = &[
    imports_point_downward,
    only_actors_know_actix,
    the_core_is_pure,
    there_are_no_globals,
    nothing_blocks_its_thread,
    select_is_biased,
    tests_wait_for_conditions,
    no_test_is_skipped,
    a_file_holds_one_thing,
    text_is_clean,
];

fn faults(path: &str, text: &str) -> Vec<String> {
    let file = File::new(path, text);
    let found = RULES.iter().flat_map(|rule| rule(&file));
    found.map(|(line, fault)| format!("{path}:{line}: {fault}")).collect()
}

/// What each module may use besides itself and the modules that everybody may use.
fn below(module: &str) -> Option<&'static [&'static str]> {
    Some(match module {
        "block" => &[],
        "config" => &["block"],
        "observe" => &["config", "block"],
        "ledger" | "pods" => &["block", "observe", "config"],
        "chaos" => &["ledger", "pods", "block", "observe", "config"],
        "actor" => &["chaos", "ledger", "pods", "block", "observe", "config"],
        "rpc" | "admin" => &["actor", "ledger", "pods", "block", "observe", "config"],
        "app" => &["rpc", "admin", "actor", "chaos", "ledger", "pods", "block", "observe", "config"],
        "cli" => &["app", "rpc", "admin", "actor", "ledger", "pods", "block", "observe", "config"],
        _ => return None,
    })
}

fn imports_point_downward(file: &File) -> Vec<(usize, String)> {
    let Some((module, allowed)) = file.module().and_then(|module| Some((module, below(module)?))) else {
        return Vec::new();
    };
    let upward = |used: &String| used != module && below(used).is_some() && !allowed.contains(&used.as_str());
    let used = paths_below(&file.code, "crate").into_iter().filter(|(_, used)| upward(used));
    used.map(|(line, used)| (line, format!("`{module}` must not use `{used}`: imports point downward only")))
        .collect()
}

fn only_actors_know_actix(file: &File) -> Vec<(usize, String)> {
    if !file.is_in(&["src/"]) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !file.is_in(&["src/actor/", "src/rpc/", "src/app.rs", "src/app/"]) {
        for name in ["actix", "actix_rt"] {
            found.extend(word(&file.code, name, "only `actor`, `app` and `rpc` know actix"));
        }
    }
    if !file.is_in(&["src/actor/"]) {
        for name in ["Addr", "WeakAddr", "Recipient"] {
            found.extend(word(&file.code, name, "addresses stay inside `actor`: hold a handle"));
        }
    }
    found
}

fn the_core_is_pure(file: &File) -> Vec<(usize, String)> {
    if !file.is_in(&["src/block/"]) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for name in [
        "async",
        "await",
        "tokio",
        "actix",
        "slog",
        "fastrand",
        "Instant",
        "SystemTime",
        "println",
        "eprintln",
    ] {
        found.extend(word(&file.code, name, "`block` is pure: no async, I/O, clock, randomness or log"));
    }
    for (line, used) in paths_below(&file.code, "std") {
        if ["env", "fs", "io", "net", "os", "process"].contains(&used.as_str()) {
            found.push((line, format!("`std::{used}`: `block` is pure, it does no I/O")));
        }
    }
    found
}

fn there_are_no_globals(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if file.is_in(&["src/", "client/src/"]) {
        for (number, line) in lines(&file.code) {
            let item = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if item.starts_with("static ") {
                found.push((number, "no statics: pass it in".to_owned()));
            }
        }
        for name in ["thread_local", "LazyLock", "OnceLock", "lazy_static"] {
            found.extend(word(&file.code, name, "no globals: pass it in"));
        }
    }
    found
}

fn nothing_blocks_its_thread(file: &File) -> Vec<(usize, String)> {
    let sleeps = |(number, line): (usize, &str)| line.contains("thread::sleep").then_some(number);
    let found = lines(&file.code).filter_map(sleeps).filter(|_| file.is_in(&["src/", "client/src/"]));
    found.map(|number| (number, "a sleeping thread serves nobody: wait on the runtime".to_owned())).collect()
}

fn select_is_biased(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, name) in file.code.match_indices("select!") {
        let body = file.code[at + name.len()..].trim_start().trim_start_matches(['{', '(']);
        if !body.trim_start().starts_with("biased;") {
            let line = line_of(&file.code, at);
            found.push((
                line,
                "`select!` without `biased` draws at random: no simulation can repeat it".to_owned(),
            ));
        }
    }
    found
}

/// A sleep between two looks at a condition is a poll: a deadline stands near above it. `support/` also paces load, and
/// `actix_contract`, `virtual_time` and `simulation` sleep on virtual time.
fn tests_wait_for_conditions(file: &File) -> Vec<(usize, String)> {
    let free =
        ["tests/suite/support/", "tests/actix_contract.rs", "tests/virtual_time/", "tests/simulation/"];
    if !file.is_in(&["tests/"]) || file.is_in(&free) {
        return Vec::new();
    }
    let polls = |line: usize| {
        let mut above = lines(&file.code).skip(line.saturating_sub(6)).take(6.min(line));
        above.any(|(_, text)| text.contains("deadline"))
    };
    let mut found = word(&file.code, "sleep", "no sleeps: wait for a condition with a deadline");
    found.extend(word(&file.code, "sleep_until", "no sleeps: wait for a condition with a deadline"));
    found.retain(|(line, _)| !polls(*line));
    found
}

fn no_test_is_skipped(file: &File) -> Vec<(usize, String)> {
    let skipped = |line: &str| line.trim_start().starts_with("#[ignore");
    let found = lines(&file.code).filter(|(_, line)| skipped(line));
    found.map(|(number, _)| (number, "no skipped tests: mend it or delete it".to_owned())).collect()
}

fn a_file_holds_one_thing(file: &File) -> Vec<(usize, String)> {
    let (most, has) = (600, file.text.lines().count());
    if !file.is_in(&["src/"]) || has <= most {
        return Vec::new();
    }
    vec![(most, format!("{has} lines: a file of more than {most} is two files"))]
}

fn text_is_clean(file: &File) -> Vec<(usize, String)> {
    // An empty line that a patch leaves as it is, is a space.
    let patch = file.path.ends_with(".patch");
    let trailing = |line: &str| line.ends_with([' ', '\t', '\r']) && !(patch && line == " ");
    let dirty = file.text.split('\n').zip(1..).filter(|(line, _)| trailing(line));
    let mut found: Vec<_> = dirty.map(|(_, number)| (number, "white space at the end".to_owned())).collect();
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        found.push((file.text.lines().count(), "a file ends with a newline".to_owned()));
    }
    found
}

fn lines(code: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(code.lines())
}

fn line_of(code: &str, at: usize) -> usize {
    1 + code[..at].matches('\n').count()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `name` stands as a word of its own.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(name).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).is_none_or(|before| !is_name(bytes[before]));
        before && bytes.get(at + name.len()).is_none_or(|after| !is_name(*after))
    })
}

fn word(code: &str, name: &str, fault: &str) -> Vec<(usize, String)> {
    words(code, name).map(|at| (line_of(code, at), format!("`{name}`: {fault}"))).collect()
}

/// The names right below `root` in paths, also in `use root::{a, b::{c, d}}` (which gives `a` and `b`).
fn paths_below(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, root) {
        let Some(rest) = code[at + root.len()..].strip_prefix("::") else { continue };
        let names = match rest.strip_prefix('{') {
            Some(group) => heads_of_group(group),
            None => vec![rest],
        };
        let line = line_of(code, at);
        let name = |path: &str| {
            path.trim_start().bytes().take_while(|byte| is_name(*byte)).map(char::from).collect()
        };
        found.extend(names.into_iter().map(|path| (line, name(path))));
    }
    found
}

/// Splits `a, b::{c, d}} …` into `a` and `b::{c, d}`.
fn heads_of_group(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut heads) = (0, 0, Vec::new());
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                heads.push(&group[from..at]);
                break;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                heads.push(&group[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    heads
}

/// The text with comments and the contents of string and character literals blanked out; lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal(rest, code.as_bytes().last().copied()).unwrap_or(0);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
            code.extend(rest[..length].chars().map(blank));
            rest = &rest[length..];
        }
    }
    code
}

/// The length of the comment or literal that `rest` begins with, if it does; `before` is the byte before it.
fn literal(rest: &str, before: Option<u8>) -> Option<usize> {
    let end_after =
        |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(end_after(2, "*/"));
    }
    if rest.starts_with('r') && before.is_none_or(|before| !is_name(before) || before == b'b') {
        let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            return Some(end_after(hashes + 2, &format!("\"{}", "#".repeat(hashes))));
        }
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, b'"'));
    }
    // 'a' and '\n' are characters, 'a is a lifetime.
    let mut after = rest.strip_prefix('\'')?.chars();
    let (first, second) = (after.next()?, after.next()?);
    (first == '\\' || second == '\'').then(|| quoted(rest, b'\''))
}

fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Calls `visit` with every text file of the repository; what tools put there is left out.
fn each_file(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy();
        let foreign = name == "target" || name == "node_modules" || name == "__pycache__" || name == ".git";
        if foreign || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            each_file(&path, visit);
        } else if let Ok(text) = fs::read_to_string(&path) {
            visit(&path, &text);
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut seen, mut found) = (0, Vec::new());
    each_file(root, &mut |path, text| {
        let path = path.strip_prefix(root).unwrap().to_string_lossy();
        if !path.ends_with(".lock") && !path.ends_with(".proptest-regressions") {
            seen += 1;
            found.extend(faults(&path, text));
        }
    });
    assert!(seen > 40, "only {seen} files under {}", root.display());
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// Asserts that `text` as the file `path` has faults on exactly these lines.
#[track_caller]
fn expect(path: &str, text: &str, lines: &[usize]) {
    let found = faults(path, text);
    let at: Vec<usize> =
        found.iter().map(|fault| fault.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(at, lines, "{found:#?}");
}

#[test]
fn an_import_that_points_upward_is_found() {
    expect("src/ledger/mod.rs", "use crate::actor::Handle;\n", &[1]);
    expect("src/ledger/mod.rs", "use crate::{block::Span, pods::Pod};\n", &[1]);
    expect("src/ledger/mod.rs", "use crate::{\n    block::{Span, Range},\n    config::Settings,\n};\n", &[]);
    expect("src/block/span.rs", "fn f() {\n    crate::observe::Metrics::new();\n}\n", &[2]);
    expect("src/observe/log.rs", "use crate::ledger::Ledger;\n", &[1]);
    expect("src/actor/mod.rs", "use crate::rpc::Service;\n", &[1]);
    expect("src/rpc/mod.rs", "use crate::actor::AllocatorHandle;\nuse crate::shutdown::Phase;\n", &[]);
    expect("src/app.rs", "use crate::cli::Args;\nuse crate::rpc::Service;\n", &[1]);
}

#[test]
fn actix_outside_its_rooms_is_found() {
    expect("src/admin/mod.rs", "use actix::prelude::*;\n", &[1]);
    expect("src/cli/dev.rs", "fn f() { actix_rt::spawn(g()) }\n", &[1]);
    expect("src/rpc/mod.rs", "use actix::Arbiter;\nstruct S(Addr<Allocator>);\n", &[2]);
    expect("src/actor/mod.rs", "use actix::prelude::*;\nstruct S(Addr<Allocator>);\n", &[]);
    expect("src/config/settings.rs", "use std::net::SocketAddr;\n", &[]);
    expect("src/ledger/mod.rs", "// actix keeps out of here\nconst NOTE: &str = \"actix\";\n", &[]);
}

#[test]
fn impurity_in_the_core_is_found() {
    expect("src/block/a.rs", "use std::time::Instant;\n", &[1]);
    expect("src/block/a.rs", "use std::{fmt, fs};\n", &[1]);
    expect("src/block/a.rs", "pub async fn f() {}\n", &[1]);
    expect("src/block/a.rs", "use std::time::Duration;\nuse std::{fmt, thread};\n", &[]);
    expect("src/pods/a.rs", "use std::time::Instant;\n", &[]);
}

#[test]
fn globals_are_found() {
    expect("src/a.rs", "static COUNT: AtomicU64 = AtomicU64::new(0);\n", &[1]);
    expect("src/a.rs", "pub(crate) static COUNT: u64 = 0;\n", &[1]);
    expect("src/a.rs", "thread_local! {}\n", &[1]);
    expect("src/a.rs", "fn f(name: &'static str) {}\n", &[]);
}

#[test]
fn sleeping_threads_random_selects_and_skipped_tests_are_found() {
    expect("src/a.rs", "std::thread::sleep(d);\n", &[1]);
    expect("src/a.rs", "tokio::select! {\n    x = y => {}\n}\n", &[1]);
    expect("src/a.rs", "tokio::select! {\n    biased;\n    x = y => {}\n}\n", &[]);
    expect("tests/suite/a.rs", "#[test]\n#[ignore]\nfn f() {}\n", &[2]);
    expect("tests/suite/a.rs", "tokio::time::sleep(d).await;\n", &[1]);
    expect("tests/a.rs", "while !done() {\n    assert!(now() < deadline);\n    sleep(d);\n}\n", &[]);
    expect("tests/suite/support/wait.rs", "tokio::time::sleep(d).await;\n", &[]);
}

#[test]
fn long_files_and_unclean_text_are_found() {
    expect("src/a.rs", &"fn f() {}\n".repeat(600), &[]);
    expect("src/a.rs", &"fn f() {}\n".repeat(601), &[600]);
    expect("README.md", "one \ntwo\n", &[1]);
    expect("README.md", "one\ntwo", &[2]);
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b\nb */ c", "a     \n     c"),
        ("f(\"b \\\" b\") c", "f(        ) c"),
        ("f(r#\"b \" b\"#) c", "f(          ) c"),
        ("f('b', '\\'') c", "f(   ,     ) c"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("for_r\"b\"", "for_r   "),
    ] {
        assert_eq!(code_only(text), code, "{text:?}");
    }
}
