//! The guide and the README say nothing that the program does not do: their commands are run, one page after the other in a folder
//! of its own, with the outputs compared that they show; what cannot run here names commands and options that exist.
//!
//! What stands behind a block's fence says how it is tested:
//!
//! * `sh`: every command succeeds. A `text` block right after it is what they print, `...` standing for what varies: within a
//!   line for any part of it, alone for any number of lines. Spaces and the width of tables do not count.
//! * `sh,fails`: the same, but the last command ends with code 2.
//! * `sh,not-run`: every `tipi` in it names a command that exists, with options that it has. So does code within a sentence.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use start::root;

/// A fenced block of a page.
struct Block {
    /// Its first line's number.
    line: usize,
    /// What stands behind the fence.
    kind: String,
    lines: Vec<String>,
}

/// The blocks of a page, and its other lines with their numbers.
fn parts(text: &str) -> (Vec<Block>, Vec<(usize, &str)>) {
    let (mut blocks, mut others): (Vec<Block>, Vec<_>) = (Vec::new(), Vec::new());
    let mut inside = false;
    for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line)) {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(kind) => {
                inside = true;
                blocks.push(Block { line: number + 1, kind: kind.trim().into(), lines: Vec::new() });
            }
            None if inside => blocks.last_mut().unwrap().lines.push(line.into()),
            None => others.push((number, line)),
        }
    }
    (blocks, others)
}

/// A block's commands with the numbers of their lines; one that goes on behind a backslash is one.
fn commands(block: &Block) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (line, text) in (block.line..).zip(&block.lines) {
        let (text, more) = text.strip_suffix('\\').map_or((text.as_str(), false), |text| (text, true));
        match commands.last_mut() {
            Some((_, command)) if goes_on => command.push_str(text.trim_start()),
            _ => commands.push((line, text.trim_start().into())),
        }
        goes_on = more;
    }
    commands.retain(|(_, command)| !command.is_empty() && !command.starts_with('#'));
    commands
}

/// A folder for a page, with the repository's model and pictures where pages name them.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let link = |from: PathBuf, to: &str| {
            let to = scratch.0.path().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(from, to).unwrap();
        };
        link(env!("CARGO_BIN_EXE_tipi").into(), "bin/tipi");
        for folder in ["weights/picto", "examples/pictos", "examples/pictos-generic"] {
            link(root().join(folder), &format!("page/{folder}"));
        }
        scratch
    }

    /// A command's code, and what it prints on both streams.
    fn run(&self, command: &str) -> (Option<i32>, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let out = Command::new("sh")
            .args(["-euc", &format!("exec 2>&1\n{command}")])
            .current_dir(self.0.path().join("page"))
            .env("PATH", format!("{}:{path}", self.0.path().join("bin").display()))
            .env("TIPI_TUNE", "off")
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// A line without what depends on widths: runs of spaces and of a table's rules count as one.
fn plain(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut text = words.join(" ");
    for rule in ['─', '═'] {
        let two = String::from_iter([rule, rule]);
        while text.contains(&two) {
            text = text.replace(&two, &rule.to_string());
        }
    }
    text
}

/// Whether `text` is what `pattern` says, `...` standing for anything.
fn line_is(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once("...") else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    let places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    places.into_iter().any(|at| line_is(rest, &text[at..]))
}

/// Whether `lines` are what `patterns` say, a line `...` standing for any number of them.
fn lines_are(patterns: &[String], lines: &[String]) -> bool {
    match (patterns.split_first(), lines.split_first()) {
        (None, _) => lines.is_empty(),
        (Some((first, rest)), _) if first == "..." => (0..=lines.len()).any(|at| lines_are(rest, &lines[at..])),
        (Some((first, rest)), Some((line, more))) => line_is(first, line) && lines_are(rest, more),
        (Some(_), None) => false,
    }
}

fn output_is(shown: &[String], printed: &str) -> bool {
    let lines = |all: Vec<&str>| all.into_iter().map(plain).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    lines_are(&lines(shown.iter().map(String::as_str).collect()), &lines(printed.lines().collect()))
}

/// What `tipi COMMANDS --help` prints; none where there is no such command.
fn help(commands: &[String]) -> Option<String> {
    static KNOWN: Mutex<BTreeMap<Vec<String>, Option<String>>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().unwrap().get(commands) {
        return known.clone();
    }
    let arguments: Vec<&str> = commands.iter().map(String::as_str).chain(["--help"]).collect();
    let out = start::tipi(&arguments);
    let text = out.status.success().then(|| String::from_utf8(out.stdout).unwrap());
    KNOWN.lock().unwrap().insert(commands.to_vec(), text.clone());
    text
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let names = list.lines().take_while(|line| !line.is_empty());
    let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(String::from).collect()
}

/// Whether a help knows this option.
fn has(help: &str, option: &str) -> bool {
    help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == option)
}

/// Whether any command has this option.
fn some_has(commands: &mut Vec<String>, option: &str) -> bool {
    let Some(text) = help(commands) else { return false };
    has(&text, option)
        || listed(&text).into_iter().any(|name| {
            commands.push(name);
            let found = some_has(commands, option);
            commands.pop();
            found
        })
}

/// The words of a shell command, up to a comment; what separates commands is a word.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '<' | '>') => {
                words.extend(word.take());
                words.push(c.to_string());
            }
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What is wrong with the names in a command that is not run.
fn unknown(command: &str) -> Option<String> {
    let words = words(command);
    let parts = words.split(|word| ["|", ";", "&"].contains(&word.as_str()));
    parts.map(|part| &part[part.iter().take_while(|word| word.contains('=')).count()..]).find_map(|part| {
        let arguments = match part {
            [first, rest @ ..] if first == "tipi" => rest,
            [first, second, rest @ ..] if first == "cargo" && second == "run" => {
                rest.split_once_at("--").unwrap_or_default()
            }
            _ => return None,
        };
        unknown_in(arguments)
    })
}

/// What stands behind a word.
trait After {
    fn split_once_at(&self, word: &str) -> Option<&[String]>;
}

impl After for [String] {
    fn split_once_at(&self, word: &str) -> Option<&[String]> {
        self.iter().position(|other| other == word).map(|at| &self[at + 1..])
    }
}

fn unknown_in(arguments: &[String]) -> Option<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut text = help(&commands).unwrap();
    for argument in arguments {
        if listed(&text).is_empty() || argument.starts_with('-') {
            break;
        }
        // `tipi fit METHOD`: any of them is meant.
        if argument.chars().all(char::is_uppercase) {
            return None;
        }
        commands.push(argument.clone());
        match help(&commands) {
            Some(found) => text = found,
            None => return Some(format!("there is no `tipi {}`", commands.join(" "))),
        }
    }
    let options = arguments.iter().filter(|word| word.starts_with('-') && word.len() > 1);
    let mut names = options.map(|word| word.split('=').next().unwrap_or(word));
    names.find(|name| !has(&text, name)).map(|name| format!("`tipi {}` has no {name}", commands.join(" ")))
}

/// What is wrong with code within sentences.
fn unknown_inline(line: &str) -> Option<String> {
    line.split('`').skip(1).step_by(2).find_map(|code| match code {
        _ if code.starts_with("tipi ") => unknown(code),
        _ if code.starts_with("--") => {
            let name = code.split([' ', '=']).next().unwrap_or(code);
            (!some_has(&mut Vec::new(), name)).then(|| format!("no command has {name}"))
        }
        _ => None,
    })
}

/// All that is wrong with a page.
fn faults(name: &str, text: &str) -> Vec<String> {
    let (blocks, others) = parts(text);
    let scratch = Scratch::new();
    let mut faults = Vec::new();
    let mut printed = None;
    for block in &blocks {
        let last = printed.take();
        match block.kind.as_str() {
            "sh" | "sh,fails" => {
                let commands = commands(block);
                let mut all = String::new();
                for (number, (line, command)) in commands.iter().enumerate() {
                    let wanted = if block.kind == "sh,fails" && number + 1 == commands.len() { 2 } else { 0 };
                    let (code, output) = scratch.run(command);
                    if code != Some(wanted) {
                        faults.push(format!("{name}:{line}: {command}\n  ends with {code:?}, not {wanted}: {output}"));
                    }
                    all.push_str(&output);
                }
                printed = Some((block.line + block.lines.len(), all));
            }
            "sh,not-run" => {
                let wrong = commands(block).into_iter().filter_map(|(line, command)| Some((line, unknown(&command)?)));
                faults.extend(wrong.map(|(line, fault)| format!("{name}:{line}: {fault}")));
            }
            "text" => {
                // With no sentence between, it shows what the commands print.
                let Some((end, output)) = last else { continue };
                if others.iter().any(|(line, text)| (end..block.line).contains(line) && !text.trim().is_empty()) {
                    continue;
                }
                if !output_is(&block.lines, &output) {
                    faults.push(format!("{name}:{}: not what is printed:\n{output}", block.line));
                }
            }
            kind if kind.starts_with("sh,") || kind == "bash" || kind.is_empty() => {
                faults.push(format!("{name}:{}: no such kind of block: '{kind}'", block.line));
            }
            _ => {}
        }
    }
    let inline = others.into_iter().filter_map(|(line, text)| Some((line, unknown_inline(text)?)));
    faults.extend(inline.map(|(line, fault)| format!("{name}:{line}: {fault}")));
    faults
}

/// The README and the guide's pages in the order in which they are read.
fn pages() -> Vec<(String, String)> {
    let source = root().join("docs/src");
    let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap();
    let listed: Vec<&str> = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let mut there: Vec<String> =
        fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.retain(|name| name.ends_with(".md") && name != "SUMMARY.md");
    there.sort();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, there, "SUMMARY.md lists every page once");
    let read = |name: &str| (name.to_string(), fs::read_to_string(source.join(name)).unwrap());
    let readme = ("README.md".to_string(), fs::read_to_string(root().join("README.md")).unwrap());
    std::iter::once(readme).chain(listed.into_iter().map(read)).collect()
}

#[test]
fn all_that_the_guide_says_can_be_done() {
    let pages = pages();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, text)) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = Instant::now();
            wrong.lock().unwrap().extend(faults(name, text));
            println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The one fault of a page that has this in it.
fn fault(page: &str) -> String {
    let mut all = faults("page.md", page);
    assert_eq!(all.len(), 1, "{page}: {all:?}");
    all.remove(0)
}

#[test]
fn what_is_wrong_on_a_page_is_found() {
    for (page, said) in [
        ("```sh\ntipi devcies\n```", "page.md:2: tipi devcies\n  ends with Some(2), not 0"),
        ("```sh\ntipi devices \\\n  --jsn\n```", "page.md:2: tipi devices --jsn\n  ends with Some(2), not 0"),
        ("```sh\ntrue\n\nfalse # not so\n```", "page.md:4: false"),
        ("```sh,fails\ntrue\n```", "page.md:2: true\n  ends with Some(0), not 2"),
        ("```sh,not-run\ntipi devcies\n```", "page.md:2: there is no `tipi devcies`"),
        ("```sh,not-run\nA=1 tipi fit tipp\n```", "there is no `tipi fit tipp`"),
        ("```sh,not-run\ntrue && tipi fit tip --shot 1\n```", "`tipi fit tip` has no --shot"),
        ("```sh,not-run\ncargo run --release -- info --shot=1 x\n```", "`tipi info` has no --shot"),
        ("As `tipi fit pini --nois both` does", "page.md:1: `tipi fit pini` has no --nois"),
        ("Give `--min-confidence`, or\n`--min-confidenc 0.5`.", "page.md:2: no command has --min-confidenc"),
        ("```sh\necho yes\n```\n\n```text\nno\n```", "page.md:6: not what is printed:\nyes"),
        ("```sh\necho yes; echo no\n```\n```text\nyes\n```", "not what is printed:\nyes\nno"),
        ("```bash\ntrue\n```", "no such kind of block: 'bash'"),
    ] {
        assert!(fault(page).contains(said), "{page}: {}", fault(page));
    }
    let good = "Give `--min-confidence 0.5` to `tipi predict`:\n\n```sh\n# nothing\nprintf 'a  b 17 c\\nd\\n\\ne\\n' # so\n```\n\n\
                ```text\na b ... c\n...\ne\n```\n\nElse:\n```sh,not-run\ntipi fit tip --shots 4 # --not-one\n```\n";
    assert_eq!(faults("page.md", good), Vec::<String>::new());
}
