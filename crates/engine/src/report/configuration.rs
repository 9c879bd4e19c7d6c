//! [`Configuration`]: with which settings a cluster runs, and where each comes from, as its clients are told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The settings of a cluster, in the order in which they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Configuration {
    /// The config file, if there is one.
    pub file: Option<String>,
    /// Each setting once.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Setting {
    /// An option's long name, or `env.NAME`.
    pub name: String,
    /// As written, or as worked out. Empty where nobody has said anything; none where it may be secret.
    pub values: Option<Vec<String>>,
    /// Who has said it.
    pub origin: Origin,
    /// Whether a reload changes it. If not, it takes a restart.
    pub changes_at_reload: bool,
    /// What is not shown. It is compared all the same.
    #[serde(skip)]
    hidden: Hidden,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from")]
#[expect(clippy::exhaustive_enums, reason = "whoever shows it decides on each of them")]
pub enum Origin {
    /// It was typed.
    #[serde(rename = "command line")]
    CommandLine,
    /// An environment variable of the master.
    #[serde(rename = "environment")]
    Environment {
        /// Its name.
        variable: String,
    },
    /// The config file.
    #[serde(rename = "file")]
    File {
        /// Where it is.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// Nobody has said it.
    #[serde(rename = "default")]
    Default {
        /// What the help says, where the default is not a value.
        words: Option<String>,
    },
    /// The number of slots was changed since.
    #[serde(rename = "scale")]
    Scale,
    /// A reload has set this variable.
    #[serde(rename = "reload")]
    Reload,
}

/// Where the settings that are said now differ from those in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// An option's long name, or `env.NAME`.
    pub name: String,
    /// In which way.
    pub change: Change,
    /// The values in force. None where they may be secret, and where there are none.
    pub in_force: Option<Vec<String>>,
    /// The values that are said now. None as above.
    pub now: Option<Vec<String>>,
    /// Whether a reload takes it over. If not, it takes a restart.
    pub changes_at_reload: bool,
}

/// How a setting differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "whoever shows it decides on each of them")]
pub enum Change {
    /// It is said now, and not in force.
    Added,
    /// It is in force, and not said any more.
    Removed,
    /// It has other values.
    Changed,
}

/// Values that are kept from everybody.
#[derive(Clone, Default, PartialEq, Eq)]
struct Hidden(Vec<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Configuration {
    /// These settings, from this file among others.
    pub fn new(file: Option<String>, settings: Vec<Setting>) -> Self {
        Self { file, settings }
    }

    /// Says what a default comes to that is not a value by itself.
    pub fn work_out(&mut self, name: &str, value: impl Into<String>) {
        let setting = self.settings.iter_mut().find(|setting| setting.name == name);
        if let Some(Setting { values: Some(values), origin: Origin::Default { .. }, .. }) = setting
            && values.is_empty()
        {
            values.push(value.into());
        }
    }

    /// Says what a setting comes to, whatever was written.
    pub(crate) fn comes_to(&mut self, name: &str, value: String) {
        if let Some(setting) = self.settings.iter_mut().find(|setting| setting.name == name) {
            setting.values = Some(vec![value]);
        }
    }

    /// Puts this in the place of the setting of the same name, or behind the others.
    pub(crate) fn put(&mut self, setting: Setting) {
        match self.settings.iter_mut().find(|known| known.name == setting.name) {
            Some(known) => *known = setting,
            None => self.settings.push(setting),
        }
    }

    /// Where these settings, which are said now, differ from those in force, wherever they come from.
    pub(crate) fn differences_from(&self, in_force: &Self) -> Vec<Difference> {
        let new = self.settings.iter().filter_map(|now| {
            let old = in_force.find(&now.name);
            let same = old.is_some_and(|old| old.values == now.values && old.hidden == now.hidden);
            (!same).then(|| now.differs_from(old))
        });
        let is_gone = |old: &&Setting| self.find(&old.name).is_none();
        new.chain(in_force.settings.iter().filter(is_gone).map(Setting::is_gone)).collect()
    }

    fn find(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

impl Setting {
    /// A setting that everybody may see.
    pub fn new(
        name: impl Into<String>,
        values: Vec<String>,
        origin: Origin,
        changes_at_reload: bool,
    ) -> Self {
        let name = name.into();
        Self { name, values: Some(values), origin, changes_at_reload, hidden: Hidden::default() }
    }

    /// The same, but shows this in the place of its values: none at all, or what tells no secret.
    #[must_use]
    pub fn shown_as(mut self, shown: Option<Vec<String>>) -> Self {
        let values = std::mem::replace(&mut self.values, shown);
        self.hidden = Hidden(values.unwrap_or_default());
        self
    }

    fn differs_from(&self, old: Option<&Self>) -> Difference {
        Difference {
            name: self.name.clone(),
            change: if old.is_some() { Change::Changed } else { Change::Added },
            in_force: old.and_then(|old| old.values.clone()),
            now: self.values.clone(),
            changes_at_reload: self.changes_at_reload,
        }
    }

    fn is_gone(&self) -> Difference {
        Difference {
            name: self.name.clone(),
            change: Change::Removed,
            in_force: self.values.clone(),
            now: None,
            changes_at_reload: self.changes_at_reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting::new(name, vec![value.to_owned()], Origin::CommandLine, true)
    }

    fn settings(settings: Vec<Setting>) -> Configuration {
        Configuration::new(None, settings)
    }

    #[test]
    fn a_secret_is_compared_and_never_told() {
        let variable = |value| setting("env.TOKEN", value).shown_as(None);
        let old = settings(vec![variable("hunter2"), setting("workers", "2")]);
        assert!(old.differences_from(&old).is_empty());
        let differences = settings(vec![variable("hunter3"), setting("workers", "2")]).differences_from(&old);
        assert_eq!(differences.len(), 1);
        assert_eq!(
            serde_json::to_string(&differences[0]).unwrap(),
            r#"{"name":"env.TOKEN","change":"changed","in_force":null,"now":null,"changes_at_reload":true}"#
        );
        for told in [serde_json::to_string(&old.settings).unwrap(), format!("{old:?}")] {
            assert!(!told.contains("hunter"), "{told}");
        }
    }

    #[test]
    fn what_comes_and_what_goes_is_told_and_an_origin_is_no_difference() {
        let old = settings(vec![setting("timeout", "3s"), setting("env.A", "1").shown_as(None)]);
        let from_file = Origin::File { path: "f".to_owned(), line: 3 };
        let same = Setting::new("timeout", vec!["3s".to_owned()], from_file, true);
        let new = settings(vec![same, setting("env.B", "1").shown_as(None)]);
        let told: Vec<_> = new.differences_from(&old).into_iter().map(|it| (it.name, it.change)).collect();
        assert_eq!(told, [("env.B".to_owned(), Change::Added), ("env.A".to_owned(), Change::Removed)]);
    }

    #[test]
    fn a_default_in_words_is_worked_out_and_nothing_else_is() {
        let silent = |name| Setting::new(name, Vec::new(), Origin::Default { words: None }, true);
        let mut all = settings(vec![silent("timeout"), setting("bake", "1s"), silent("backoff")]);
        all.work_out("timeout", "30s");
        all.work_out("bake", "9s");
        all.work_out("unknown", "9s");
        let values: Vec<_> = all.settings.iter().map(|it| it.values.clone().unwrap()).collect();
        assert_eq!(values, [vec!["30s".to_owned()], vec!["1s".to_owned()], Vec::new()]);
    }
}
