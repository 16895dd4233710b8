//! Labels as people bring them: in options, or in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::low_level::data::{class_key, class_name};
use tipi::low_level::input;
use tipi::{Classifier, Error, Model};

/// What marks the rest of a line in a file of labels as nobody's.
const COMMENT: char = '#';

/// The labels, wherever they are.
#[derive(clap::Args)]
pub struct LabelArgs {
    /// Labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    labels: Vec<String>,
    /// A label, which may have commas in it. May be given several times.
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// File of labels in UTF-8, one a line. After a tab its line may have the label's own prompts, separated by tabs, in place of
    /// --template; {} in them stands for the label. Empty lines and those that begin with # do not count (\# begins a label with #).
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// Prompt, with {} in place of the label. Give several to average them.
    #[arg(long = "template", default_value = "a photo of a {}.")]
    templates: Vec<String>,
}

/// A label, with prompts of its own if it has some.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub name: String,
    pub prompts: Vec<String>,
}

impl LabelArgs {
    /// All labels: those in options, then those of the file.
    pub fn read(&self) -> Result<Vec<Label>> {
        let given = self.labels.iter().chain(&self.label).map(|label| label.trim()).filter(|label| !label.is_empty());
        let mut labels: Vec<Label> = given.map(|name| Label { name: name.into(), prompts: Vec::new() }).collect();
        if let Some(path) = &self.labels_file {
            labels.extend(of_file(path)?);
        }
        if labels.is_empty() {
            let reason = match self.labels.is_empty() && self.label.is_empty() {
                true => "there are no labels: give them with --labels A,B or --labels-file FILE",
                false => "--labels has no label in it; separate labels by commas",
            };
            return Err(Error::Invalid(reason.into()).into());
        }
        Ok(labels)
    }

    /// The classifier of the labels.
    pub fn classifier(&self, model: &Model, labels: &[Label]) -> Result<Classifier> {
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        if labels.iter().all(|label| label.prompts.is_empty()) {
            return Ok(model.zero_shot(&names, &self.templates)?);
        }
        let prompts = labels.iter().map(|label| Ok((&label.name, label.prompts_or(&self.templates)?)));
        Ok(model.zero_shot_of(&prompts.collect::<Result<Vec<_>>>()?)?)
    }

    /// A classifier of twice as many classes: each label by its prompts, and after all of them each by its negations.
    pub fn with_negations(&self, model: &Model, labels: &[Label], negations: &[String]) -> Result<Classifier> {
        let with = labels.iter().map(|label| Ok((label.name.clone(), label.prompts_or(&self.templates)?)));
        let without = labels.iter().map(|label| {
            let bare = Label { name: label.name.clone(), prompts: Vec::new() };
            Ok((format!("without {}", label.name), bare.prompts_or(negations)?))
        });
        Ok(model.zero_shot_of(&with.chain(without).collect::<Result<Vec<_>>>()?)?)
    }
}

impl Label {
    /// Its own prompts, or those of the templates.
    pub fn prompts_or(&self, templates: &[String]) -> Result<Vec<String>> {
        let text = class_name(&self.name);
        if !self.prompts.is_empty() {
            return Ok(self.prompts.iter().map(|prompt| prompt.replace("{}", &text)).collect());
        }
        if let Some(template) = templates.iter().find(|template| !template.contains("{}")) {
            return Err(Error::Invalid(format!("template '{template}' has no {{}} where the class name goes")).into());
        }
        Ok(templates.iter().map(|template| template.replace("{}", &text)).collect())
    }
}

/// Reads a file of labels.
pub fn of_file(path: &Path) -> Result<Vec<Label>> {
    let bytes = input::read(path, input::limit::LIST)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Error::data(path, format!("line {line}: not UTF-8: save the labels as such"))
    })?;
    Ok(parse(text).map_err(|reason| Error::data(path, reason))?)
}

/// The labels of a file's text; the error is the reason.
fn parse(text: &str) -> Result<Vec<Label>, String> {
    let mut labels = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    // `lines` takes CR LF for one line's end.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if line.trim().is_empty() || line.starts_with(COMMENT) {
            continue;
        }
        let mut fields = line.split('\t').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let name = if name.starts_with("\\#") { &name[1..] } else { name };
        if class_key(name).is_empty() {
            return Err(format!("line {number}: there is no label before the tab: write it first"));
        }
        if let Some(first) = lines.insert(class_key(name), number) {
            return Err(format!("lines {first} and {number}: both are the label '{name}': leave one"));
        }
        let prompts = fields.filter(|prompt| !prompt.is_empty()).map(String::from).collect();
        labels.push(Label { name: name.into(), prompts });
    }
    if labels.is_empty() {
        return Err("there is no label in this file: write one a line".into());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, prompts: &[&str]) -> Label {
        Label { name: name.into(), prompts: prompts.iter().map(|prompt| (*prompt).to_owned()).collect() }
    }

    #[test]
    fn a_line_is_a_label_and_perhaps_its_prompts() {
        let text = "\u{feff}# what there is\r\nred, round\r\n\r\n bell \ta {} rings\tsound\t\r\n\\#1\n";
        let all = [label("red, round", &[]), label("bell", &["a {} rings", "sound"]), label("#1", &[])];
        assert_eq!(parse(text).unwrap(), all);
        assert_eq!(all[1].prompts_or(&["an icon of {}".into()]).unwrap(), ["a bell rings", "sound"]);
        assert_eq!(all[0].prompts_or(&["an icon of {}".into()]).unwrap(), ["an icon of red, round"]);
        assert!(all[0].prompts_or(&["an icon".into()]).is_err());
    }

    #[test]
    fn what_is_no_list_of_labels_is_refused_by_its_lines() {
        assert!(parse("a\n\nb\nA\n").unwrap_err().starts_with("lines 1 and 4: both are the label 'A'"));
        assert!(parse("a\n\tprompt\n").unwrap_err().starts_with("line 2: there is no label"));
        assert!(parse("# nothing\n\n").unwrap_err().contains("no label in this file"));
    }
}
