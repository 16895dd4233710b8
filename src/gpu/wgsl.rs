//! Puts a variant's WGSL together from the texts that it names, and says what it binds.
//!
//! A line that starts with `//#` is meant for this module; to everybody else it is a comment, so that each text stays WGSL
//! for editors and formatters:
//!
//! * `//# import gemm, rowwise` brings texts along, and what they import, each once. A [`Shader`] may say which text
//!   stands for a name.
//! * `//# if BIAS` … `//# else` … `//# end` keep lines where the constant `BIAS` is not 0: what a variant does not bind
//!   must not be in its text.
//! * `//# unroll` before `for (var i = 0u; i < ROWS; i++) {` writes the loop's turns out, with numbers for `i`: a
//!   broadcast's lane must be a constant, and an array that is indexed by anything else leaves the registers. Bounds are
//!   numbers, or constants whose value is one.
//!
//! `enable` lines come first whatever text has them, then the variant's constants, the shader's own text and its imports.
//! What an entry point binds is what it and the functions it calls name of the module's bindings, each declared on a line of
//! its own that starts with `@group(0) @binding(`.
//!
//! Why not a crate: the texts lean on each other's names (an epilogue reads constants and parameters of whoever imports
//! it), while `naga_oil` compiles each import by itself and `wesl` parses and prints all of them anew, by a grammar that
//! must know each of wgpu's extensions (cooperative matrices are one). Neither unrolls loops; all of it is a few lines here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::pipeline::{Access, Shader};

/// What went wrong, with file and line.
type Result<T> = std::result::Result<T, String>;

/// Something that an entry point binds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Binding {
    /// Its number in group 0.
    pub number: u32,
    /// Its name in the text.
    pub name: String,
    /// What it is and how it is used.
    pub access: Access,
}

/// A variant's complete text.
#[derive(Clone, Debug)]
pub struct Wgsl {
    /// The text.
    pub text: String,
    /// What its entry point binds besides the parameters, by number.
    pub bindings: Vec<Binding>,
    /// Which text each of its lines is from, and which line of it.
    origins: Vec<(&'static str, usize)>,
}

impl Wgsl {
    /// Names of the texts that it is made of.
    pub fn texts(&self) -> BTreeSet<&'static str> {
        self.origins.iter().map(|(name, _)| *name).filter(|name| *name != CONSTANTS).collect()
    }

    /// A compiler's message about the text, with lines as they are in the files. Messages show where they mean as
    /// `┌─ name:line:column` and lines as `line │ …`.
    pub fn located(&self, message: &str) -> String {
        let origin = |line: &str| self.origins.get(line.trim().parse::<usize>().ok()?.checked_sub(1)?);
        let mut located = String::new();
        for line in message.lines() {
            let place = line.split_once("┌─ ").and_then(|(before, place)| {
                let mut parts = place.rsplitn(3, ':');
                let (column, (name, number)) = (parts.next()?, origin(parts.next()?)?);
                Some(format!("{before}┌─ {name}.wgsl:{number}:{column}"))
            });
            let shown = || {
                let (number, code) = line.split_once('│')?;
                Some(format!("{:>width$} │{code}", origin(number)?.1, width = number.trim_end().chars().count()))
            };
            let _ = writeln!(located, "{}", place.or_else(shown).unwrap_or_else(|| line.into()));
        }
        located
    }
}

/// Where lines come from that declare a variant's constants.
const CONSTANTS: &str = "constants";

#[derive(Clone)]
struct Line {
    text: String,
    name: &'static str,
    number: usize,
}

impl Line {
    fn error(&self, what: &str) -> String {
        format!("{}.wgsl:{}: {what}", self.name, self.number)
    }
}

/// What a line says to this module.
fn directive(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix("//#").map(str::trim)
}

/// The text without a comment at its end.
fn code(text: &str) -> &str {
    text.split("//").next().unwrap_or_default()
}

/// The complete text for an entry point of a shader. The error names file and line.
pub(super) fn compose(shader: &Shader, entry: &str, consts: &[(&'static str, u32)]) -> Result<Wgsl> {
    let mut lines = Vec::new();
    gather(shader, shader.text, consts, &mut Vec::new(), &mut lines)?;
    let (mut enables, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|l: &Line| l.text.starts_with("enable "));
    enables.sort_by(|a, b| a.text.cmp(&b.text));
    enables.dedup_by(|a, b| a.text == b.text);
    let mut values: BTreeMap<String, u32> = lines.iter().filter_map(|line| constant(&line.text)).collect();
    let mut all = enables;
    for (i, (name, value)) in consts.iter().enumerate() {
        values.insert((*name).into(), *value);
        all.push(Line { text: format!("const {name}: u32 = {value}u;"), name: CONSTANTS, number: i + 1 });
    }
    unroll(&lines, &values, &mut all)?;
    let mut text = String::new();
    for line in &all {
        text.push_str(&line.text);
        text.push('\n');
    }
    let bindings = bindings(&all, entry)?;
    Ok(Wgsl { text, bindings, origins: all.into_iter().map(|line| (line.name, line.number)).collect() })
}

/// The lines of a text, without those whose condition does not hold, and after them those of its imports.
fn gather(
    shader: &Shader,
    name: &str,
    consts: &[(&'static str, u32)],
    seen: &mut Vec<&'static str>,
    lines: &mut Vec<Line>,
) -> Result<()> {
    let name = shader.instead.iter().find(|(import, _)| *import == name).map_or(name, |(_, text)| *text);
    if seen.contains(&name) {
        return Ok(());
    }
    let found = shader.texts.iter().find(|(known, _)| *known == name);
    let (name, text) = *found.ok_or_else(|| format!("there is no text '{name}'"))?;
    seen.push(name);
    let mut imports = Vec::new();
    // Whether lines are kept, for each condition that is open.
    let mut open: Vec<bool> = Vec::new();
    for (i, text) in text.lines().enumerate() {
        let line = Line { text: text.into(), name, number: i + 1 };
        let kept = open.iter().all(|kept| *kept);
        match directive(text) {
            None | Some("unroll") if kept => lines.push(line),
            None | Some("unroll") => {}
            Some("else") => {
                let last = open.last_mut().ok_or_else(|| line.error("'else' without 'if'"))?;
                *last = !*last;
            }
            Some("end") => {
                open.pop().ok_or_else(|| line.error("'end' without 'if'"))?;
            }
            Some(words) => match words.split_once(' ') {
                Some(("import", names)) if kept => imports.extend(names.split(',').map(|n| (n.trim(), line.clone()))),
                Some(("import", _)) => {}
                Some(("if", condition)) => {
                    let known = consts.iter().find(|(name, _)| *name == condition.trim());
                    let (_, value) = known.ok_or_else(|| line.error("no constant of the variant has this name"))?;
                    open.push(*value != 0);
                }
                _ => return Err(line.error(&format!("'{words}' is none of import, if, else, end and unroll"))),
            },
        }
    }
    if !open.is_empty() {
        return Err(format!("{name}.wgsl: 'if' without 'end'"));
    }
    for (import, line) in imports {
        gather(shader, import, consts, seen, lines).map_err(|what| line.error(&what))?;
    }
    Ok(())
}

/// Name and value of `const NAME: u32 = 8u;`.
fn constant(text: &str) -> Option<(String, u32)> {
    let (name, value) = text.strip_prefix("const ")?.split_once(": u32 = ")?;
    Some((name.into(), number(code(value).trim().strip_suffix(';')?)?))
}

fn number(text: &str) -> Option<u32> {
    text.strip_suffix('u').unwrap_or(text).parse().ok()
}

/// The lines, with loops written out where that is asked for.
fn unroll(lines: &[Line], values: &BTreeMap<String, u32>, out: &mut Vec<Line>) -> Result<()> {
    let mut i = 0;
    while let Some(line) = lines.get(i) {
        i += 1;
        if directive(&line.text) != Some("unroll") {
            out.push(line.clone());
            continue;
        }
        let (name, from, to) = lines.get(i).and_then(|head| head_of_loop(&head.text, values)).ok_or_else(|| {
            line.error("'unroll' wants 'for (var i = 0u; i < N; i++) {' after it, between numbers that are known")
        })?;
        let mut depth = 0;
        let end = lines[i..].iter().position(|line| {
            depth += brackets(&line.text);
            depth == 0
        });
        let end = i + end.ok_or_else(|| line.error("the loop to unroll has no end"))?;
        let body = &lines[i + 1..end];
        // What a turn declares is its own.
        let declares = declares(body);
        for value in from..to {
            if declares {
                out.push(Line { text: "{".into(), ..line.clone() });
            }
            let turn = |line: &Line| Line { text: replaced(&line.text, name, value), ..line.clone() };
            unroll(&body.iter().map(turn).collect::<Vec<_>>(), values, out)?;
            if declares {
                out.push(Line { text: "}".into(), ..lines[end].clone() });
            }
        }
        i = end + 1;
    }
    Ok(())
}

/// Variable, first value and limit of a loop.
fn head_of_loop<'a>(text: &'a str, values: &BTreeMap<String, u32>) -> Option<(&'a str, u32, u32)> {
    let value = |text: &str| number(text).or_else(|| values.get(text).copied());
    let (name, rest) = text.trim().strip_prefix("for (var ")?.split_once(" = ")?;
    let (from, rest) = rest.split_once("; ")?;
    let to = rest.strip_prefix(name)?.strip_prefix(" < ")?.strip_suffix(&format!("; {name}++) {{"))?;
    Some((name, value(from)?, value(to)?))
}

/// By how much a line opens more curly brackets than it closes.
fn brackets(text: &str) -> i32 {
    code(text).chars().map(|c| i32::from(c == '{') - i32::from(c == '}')).sum()
}

/// Whether lines declare something that the lines after them could see.
fn declares(lines: &[Line]) -> bool {
    let mut depth = 0;
    lines.iter().any(|line| {
        let outside = depth == 0;
        depth += brackets(&line.text);
        outside && ["let ", "var "].iter().any(|word| line.text.trim_start().starts_with(word))
    })
}

/// The words of a line: where each starts, and itself. Numbers with their suffixes are words.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(inside)?;
        let len = text[start..].find(|c| !inside(c)).unwrap_or(text.len() - start);
        at = start + len;
        Some((start, &text[start..at]))
    })
}

/// The line with a number in place of a variable.
fn replaced(text: &str, name: &str, value: u32) -> String {
    let mut with = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in words(code(text)).filter(|(_, word)| *word == name) {
        let _ = write!(with, "{}{value}u", &text[done..at]);
        done = at + name.len();
    }
    with + &text[done..]
}

/// What an entry point binds, by number.
fn bindings(lines: &[Line], entry: &str) -> Result<Vec<Binding>> {
    let mut declared = BTreeMap::new();
    // What each function names, parts of something (after a dot) aside, and what it declares itself, which hides the module's.
    let mut functions: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    let mut current = None;
    let mut depth = 0;
    for line in lines {
        let text = code(&line.text).trim();
        if let Some(declaration) = text.strip_prefix("@group(0) @binding(") {
            let binding = binding(declaration).ok_or_else(|| line.error("not the form of a binding"))?;
            declared.extend(binding.map(|binding| (binding.name.clone(), binding)));
            continue;
        }
        if depth == 0
            && let Some(rest) = text.strip_prefix("fn ")
        {
            current = words(rest).next().map(|(_, name)| name);
        }
        if let Some(name) = current {
            let (uses, own) = functions.entry(name).or_default();
            let mut before = "";
            for (at, word) in words(text) {
                let after = text[at + word.len()..].trim_start();
                if ["let", "var"].contains(&before) || after.starts_with(':') {
                    own.insert(word);
                } else if !text[..at].ends_with('.') {
                    uses.insert(word);
                }
                before = word;
            }
        }
        let change = brackets(text);
        depth += change;
        if depth == 0 && (change < 0 || text.contains('}')) {
            current = None;
        }
    }
    let mut reached = BTreeSet::new();
    let mut next = vec![entry];
    while let Some(name) = next.pop() {
        if reached.insert(name)
            && let Some((uses, own)) = functions.get(name)
        {
            next.extend(uses.difference(own));
        }
    }
    if !functions.contains_key(entry) {
        return Err(format!("there is no entry point '{entry}'"));
    }
    let mut bound: Vec<Binding> = declared.into_values().filter(|b| reached.contains(b.name.as_str())).collect();
    bound.sort_by_key(|binding| binding.number);
    Ok(bound)
}

/// What `1) var<storage, read> x: array<f32>;` declares; nothing of ours where it is the parameters.
fn binding(declaration: &str) -> Option<Option<Binding>> {
    let (number, variable) = declaration.split_once(") var")?;
    let (name, ty) = variable.split_once(':')?;
    let access = match (name.rsplit_once(' ')?.0, ty.trim()) {
        ("<uniform>", _) => return Some(None),
        ("<storage, read>", _) => Access::Read,
        ("<storage, read_write>", _) => Access::Write,
        ("", "texture_2d<f32>;") => Access::ReadTexels,
        ("", "texture_2d<i32>;") => Access::ReadBytes,
        ("", "texture_storage_2d<rgba32float, write>;") => Access::WriteTexels,
        _ => return None,
    };
    Some(Some(Binding { number: number.parse().ok()?, name: name.rsplit_once(' ')?.1.into(), access }))
}
