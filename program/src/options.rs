//! Options that the register of methods makes: each setting is an option, in `fit` under its own name and in `eval` with the
//! method's name in front.

use std::collections::BTreeMap;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use tipi::low_level::adapt::evidence::ENOUGH;
use tipi::low_level::adapt::method::{Kind, Needs, Setting, Settings};
use tipi::low_level::adapt::{How, JudgeBy, METHODS, Method};

use crate::common;

/// A name as options have it.
fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

/// The prefix of a method's own options: its shortest name.
fn prefix(method: &dyn Method) -> &'static str {
    let info = method.info();
    info.aliases.iter().copied().chain([info.name]).min_by_key(|name| name.len()).unwrap_or(info.name)
}

/// The option of a setting; `long` is its name.
fn option(method: &dyn Method, setting: &'static Setting, long: String) -> Arg {
    let default = match method.defaults().get(setting.name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => format!(" [default: {text}]"),
        Some(value) => format!(" [default: {value}]"),
    };
    let arg = Arg::new(long.clone()).help(format!("{}{default}", setting.help)).long(long);
    match setting.kind {
        Kind::Count(least, most) => arg
            .value_name("N")
            .value_parser(move |text: &str| -> Result<Value, String> { Ok(json!(common::count(least, most)(text)?)) }),
        Kind::Number(range) => arg
            .value_name("X")
            .allow_negative_numbers(true)
            .value_parser(move |text: &str| -> Result<Value, String> { Ok(json!(common::within(range)(text)?)) }),
        Kind::Choice(words) => {
            let values = words.iter().map(|(word, help)| PossibleValue::new(*word).help(*help));
            arg.value_parser(PossibleValuesParser::new(values).map(Value::String))
        }
        Kind::Text(form, check) => arg.value_name(form).value_parser(move |text: &str| -> Result<Value, String> {
            check(text).map_err(|error| error.to_string())?;
            Ok(json!(text))
        }),
    }
}

/// Adds a method's settings to `fit`.
pub fn add_settings(mut command: Command, method: &dyn Method) -> Command {
    for setting in method.settings() {
        command = command.arg(option(method, setting, kebab(setting.name)));
    }
    command
}

/// The settings that were given to `fit`.
pub fn settings(method: &dyn Method, matches: &ArgMatches) -> Settings {
    given(method, matches, |setting| kebab(setting.name))
}

fn given(method: &dyn Method, matches: &ArgMatches, name: impl Fn(&Setting) -> String) -> Settings {
    let of = |setting: &Setting| {
        let value = matches.get_one::<Value>(&name(setting))?;
        Some((setting.name.to_string(), value.clone()))
    };
    method.settings().iter().filter_map(of).collect()
}

/// A method's error about its settings, with each setting's name replaced by its option.
pub fn translated(method: &dyn Method, error: &tipi::Error) -> tipi::Error {
    let text = error.to_string();
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        match method.settings().iter().find(|setting| !bare.is_empty() && setting.name == bare) {
            Some(setting) => word.replace(bare, &format!("--{}", kebab(setting.name))),
            None => word.to_string(),
        }
    };
    tipi::Error::Invalid(text.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

/// The settings that were given to `eval`, by method.
#[derive(Clone, Debug, Default)]
pub struct OfMethods(pub BTreeMap<String, Settings>);

/// The methods that have options of their own in `eval`. A setting also holds for the corrected form of the method.
fn with_options() -> impl Iterator<Item = &'static dyn Method> {
    METHODS.iter().copied().filter(|method| !method.info().needs.correction)
}

impl clap::Args for OfMethods {
    fn augment_args(mut command: Command) -> Command {
        for method in with_options() {
            let heading = format!("Settings of {}", method.info().title);
            for setting in method.settings() {
                let mut arg = option(method, setting, format!("{}-{}", prefix(method), kebab(setting.name)));
                if setting.alone {
                    arg = arg.visible_alias(kebab(setting.name));
                }
                command = command.arg(arg.help_heading(heading.clone()));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for OfMethods {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut all = BTreeMap::new();
        for method in with_options() {
            let given = given(method, matches, |setting| format!("{}-{}", prefix(method), kebab(setting.name)));
            for method in std::iter::once(method).chain(method.corrected()) {
                all.insert(method.info().name.to_string(), given.clone());
            }
        }
        Ok(OfMethods(all))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Adds the options of [`How`], those that a method with these needs has. `views` is the former name of one of them.
pub fn add_how(mut command: Command, needs: Needs, former: &'static str) -> Command {
    let how = How::default();
    let views = |long: &'static str, least, help: String| {
        let arg = Arg::new(long).long(long).value_name("N").help(help);
        let arg = arg.value_parser(move |text: &str| common::count(least, common::MOST_VIEWS)(text));
        if former == long { arg.alias("views") } else { arg }
    };
    if needs.keys {
        let default = how.key_views;
        command = command.arg(views(
            "key-views",
            0,
            format!(
                "Random views averaged into each cache key, up to 1000. 0 uses the picture as it is [default: {default}]"
            ),
        ));
    }
    if needs.training {
        command = command
            .arg(views(
                "train-views",
                0,
                "Random views of each picture, up to 1000, that are encoded beforehand and reused in training. By default (0) each \
                 epoch draws a fresh view of each picture, as the authors' code does"
                    .into(),
            ))
            .arg(
                Arg::new("no-augment")
                    .long("no-augment")
                    .action(ArgAction::SetTrue)
                    .conflicts_with("train-views")
                    .help("Train on the pictures as they are, without random views. This is fastest"),
            );
    }
    command = command.arg(
        Arg::new("judge-by").long("judge-by").value_parser(["left-out", "validation"]).help(format!(
            "What weights and confidence rest on: left-out (validation pictures and, where there are fewer than {ENOUGH}, also the \
             pictures to learn from, each judged by what is learned without it) or validation (validation pictures alone, as in \
             the papers) [default: left-out]"
        )),
    );
    if needs.grid {
        command = command.arg(Arg::new("grid").long("grid").help(format!(
            "Which α, β and γ to try: paper, standard (coarse and wide), tip-adapter (its own for each dataset), or \
             alpha=lo:hi:n,beta=lo:hi:n,gamma=lo:hi:n [default: {}]",
            how.grid
        )));
    }
    command
}

/// What the options of [`add_how`] say.
pub fn how(matches: &ArgMatches) -> How {
    let usual = How::default();
    let count = |name: &str| matches.try_get_one::<usize>(name).ok().flatten().copied();
    let plain = matches.try_get_one::<bool>("no-augment").ok().flatten().copied().unwrap_or(false);
    let grid = matches.try_get_one::<String>("grid").ok().flatten().cloned();
    How {
        key_views: count("key-views").unwrap_or(usual.key_views),
        augment: !plain && usual.augment,
        views: count("train-views").unwrap_or(usual.views),
        grid: grid.unwrap_or(usual.grid),
        judge_by: match matches.try_get_one::<String>("judge-by").ok().flatten().map(String::as_str) {
            Some("validation") => JudgeBy::Validation,
            _ => usual.judge_by,
        },
    }
}

/// [`How`] as options of `eval`, which has them all.
#[derive(Clone, Debug)]
pub struct HowArgs(pub How);

impl clap::Args for HowArgs {
    fn augment_args(command: Command) -> Command {
        add_how(command, Needs { keys: true, training: true, grid: true, ..Needs::default() }, "train-views")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for HowArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(HowArgs(how(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
