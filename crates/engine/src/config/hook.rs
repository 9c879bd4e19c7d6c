//! [`Hook`]: what is done when something happens in a cluster, written as `EVENT=exec:COMMAND` or `EVENT=http://HOST/PATH`.

use std::fmt;
use std::str::FromStr;

use crate::config::hook_url::{HookUrl, HookUrlError};

/// Something that hooks can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Moment {
    /// The first start is complete.
    Started,
    /// A reload is done: every slot runs the new code.
    Reloaded,
    /// A reload was rolled back: the old code serves on.
    RolledBack,
    /// A reload has stopped part-way: some slots run the new code, others the old.
    StoppedPartWay,
    /// A worker ended that was not asked to.
    Crashed,
    /// Workers die and are replaced again and again.
    RespawnLoop,
    /// A worker fails its check, or its watchdog was silent, and is replaced.
    Unhealthy,
    /// A worker is renewed because it is beyond a limit.
    Recycled,
    /// The cluster begins to stop, whatever the reason.
    Stopping,
    /// No worker is left. The master ends when its hooks have.
    Stopped,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Started,
        Self::Reloaded,
        Self::RolledBack,
        Self::StoppedPartWay,
        Self::Crashed,
        Self::RespawnLoop,
        Self::Unhealthy,
        Self::Recycled,
        Self::Stopping,
        Self::Stopped,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Reloaded => "reloaded",
            Self::RolledBack => "rolled-back",
            Self::StoppedPartWay => "stopped-part-way",
            Self::Crashed => "crashed",
            Self::RespawnLoop => "respawn-loop",
            Self::Unhealthy => "unhealthy",
            Self::Recycled => "recycled",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// What is done when something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub(crate) on: Moment,
    pub(crate) action: Action,
}

/// What a hook does with the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `/bin/sh` runs this command, and has the event on its stdin.
    Exec(String),
    /// The event is the body of a POST to this address.
    Post(HookUrl),
}

/// Why a text is no hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// There is no `=` in it.
    #[error("write EVENT=exec:COMMAND or EVENT=http://HOST:PORT/PATH, where EVENT is one of {}", all())]
    Form,
    /// No event has this name.
    #[error("there is no event '{name}' for hooks; write one of {}", all())]
    Event {
        /// What was written.
        name: String,
    },
    /// It is neither a command nor an address.
    #[error("write exec: and a command, or http:// and an address, behind '{on}='")]
    Action {
        /// The event.
        on: &'static str,
    },
    /// A NUL cannot be passed to a command.
    #[error("a command cannot have a NUL in it")]
    Nul,
    /// The address is none.
    #[error(transparent)]
    Url(#[from] HookUrlError),
}

impl Hook {
    /// When it is told.
    pub fn on(&self) -> Moment {
        self.on
    }

    /// The command, where it is one.
    pub fn command(&self) -> Option<&str> {
        match &self.action {
            Action::Exec(command) => Some(command),
            Action::Post(_) => None,
        }
    }

    /// Which hook it is, for a log. What stands in a command or behind an address may be secret.
    pub fn label(&self) -> String {
        match &self.action {
            Action::Exec(command) => {
                // A variable may stand before the command, with its value.
                let all = command.split_whitespace().count();
                let mut words = command.split_whitespace().skip_while(|word| word.contains('='));
                let first = words.next().unwrap_or_default();
                format!("exec:{first}{}", if all > 1 || first.is_empty() { " …" } else { "" })
            }
            Action::Post(url) => format!("http://{}", url.authority()),
        }
    }
}

impl FromStr for Hook {
    type Err = HookError;

    fn from_str(text: &str) -> Result<Self, HookError> {
        let (on, action) = text.split_once('=').ok_or(HookError::Form)?;
        let meant = Moment::ALL.into_iter().find(|moment| moment.name() == on.trim());
        let on = meant.ok_or_else(|| HookError::Event { name: on.trim().to_owned() })?;
        let action = match action.trim().split_once(':') {
            Some(("exec", command)) if command.contains('\0') => return Err(HookError::Nul),
            Some(("exec", command)) if !command.trim().is_empty() => Action::Exec(command.trim().to_owned()),
            Some((scheme, rest)) if rest.starts_with("//") => Action::Post(HookUrl::new(scheme, rest)?),
            _ => return Err(HookError::Action { on: on.name() }),
        };
        Ok(Self { on, action })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Exec(command) => write!(f, "{}=exec:{command}", self.on.name()),
            Action::Post(url) => write!(f, "{}={url}", self.on.name()),
        }
    }
}

/// The names of all moments, for people.
fn all() -> String {
    Moment::ALL.map(Moment::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Hook>().unwrap_err().to_string()
    }

    #[test]
    fn a_hook_is_written_as_it_is_read() {
        for text in [
            "crashed=exec:logger -t shop",
            "rolled-back=exec:A=1 ./tell --to=x",
            "stopped=http://127.0.0.1:9000/hooks?a=b",
        ] {
            assert_eq!(text.parse::<Hook>().unwrap().to_string(), text);
        }
        let hook: Hook = " started = exec: ./warm ".parse().unwrap();
        assert_eq!((hook.on(), hook.command()), (Moment::Started, Some("./warm")));
        for moment in Moment::ALL {
            assert_eq!(format!("{}=exec:x", moment.name()).parse::<Hook>().unwrap().on(), moment);
        }
    }

    #[test]
    fn what_is_no_hook_is_told_with_the_choices() {
        let choices = "started, reloaded, rolled-back, stopped-part-way, crashed, respawn-loop, unhealthy, recycled, \
                       stopping, stopped";
        assert_eq!(
            error("crash=exec:x"),
            format!("there is no event 'crash' for hooks; write one of {choices}")
        );
        assert_eq!(
            error("crashed"),
            format!(
                "write EVENT=exec:COMMAND or EVENT=http://HOST:PORT/PATH, where EVENT is one of {choices}"
            )
        );
        for action in ["", "exec:", "exec: ", "./tell", "mailto:me@x", "http:/x", "http"] {
            let expected = "write exec: and a command, or http:// and an address, behind 'crashed='";
            assert_eq!(error(&format!("crashed={action}")), expected, "{action}");
        }
        assert_eq!(error("crashed=exec:a\0b"), "a command cannot have a NUL in it");
        assert!(error("crashed=https://x/").contains("exec:curl"));
    }

    #[test]
    fn a_label_tells_no_secret() {
        let label = |text: &str| text.parse::<Hook>().unwrap().label();
        assert_eq!(label("crashed=exec:curl -H 'Token: hunter2' http://x"), "exec:curl …");
        assert_eq!(label("crashed=exec:./tell"), "exec:./tell");
        assert_eq!(label("crashed=exec:TOKEN=hunter2 A=1 ./tell x"), "exec:./tell …");
        assert_eq!(label("crashed=exec:TOKEN=hunter2"), "exec: …");
        assert_eq!(label("crashed=http://127.0.0.1:9000/hunter2"), "http://127.0.0.1:9000");
    }
}
