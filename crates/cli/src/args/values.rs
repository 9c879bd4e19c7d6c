//! Values that can be written in more than one way.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread::available_parallelism;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser as _, ValueParser, ValueParserFactory};
use recluster::{CompileCache, DrainSignal, InstanceEnv, Scale, Surge, VariableError, Which};

/// Why a value is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("write a number from 1 on")]
    Count,
    #[error("write a number from 1 on, or 'max' for as many as there are usable cores")]
    Workers,
    #[error("write a number from 1 on, or 'all'")]
    Surge,
    #[error("write how many workers there are to be, such as 4, or how many more or fewer, such as +1 or -1")]
    Scale,
    #[error("write the number of a slot, such as 2, or the pid of a worker")]
    Worker,
    #[error("write a path, or 'none'")]
    Control,
    #[error("this is the path of a directory, and not of a socket")]
    ControlDirectory,
    #[error(
        "write a path without 'unix:', and no name of the kernel's, which everybody could use (a file that begins with '@' is './@name')"
    )]
    ControlAddress,
    #[error("write a directory, 'auto' for the usual one, or 'none'")]
    Cache,
    #[error("write three octal digits, such as 027")]
    Umask,
}

/// How many of something of which there is at least one.
pub(crate) fn count(text: &str) -> Result<NonZeroU32, ValueError> {
    text.parse().map_err(|_| ValueError::Count)
}

/// How many workers: a number, or `max`.
pub(crate) fn workers(text: &str) -> Result<NonZeroU32, ValueError> {
    if text == "max" {
        // Knows the affinity mask and the CPU quota of the control group.
        let cores = available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok());
        return Ok(cores.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN));
    }
    text.parse().map_err(|_| ValueError::Workers)
}

/// The permissions that files of workers do not have.
pub(crate) fn umask(text: &str) -> Result<u32, ValueError> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| is_octal && *mask <= 0o777);
    mask.ok_or(ValueError::Umask)
}

/// How many extra workers a reload may run: a number, or `all`.
pub(crate) fn surge(text: &str) -> Result<Surge, ValueError> {
    match text {
        "all" => Ok(Surge::All),
        number => number.parse().map(Surge::AtMost).map_err(|_| ValueError::Surge),
    }
}

/// How many workers there are to be: `4`, `+1` or `-1`.
pub(crate) fn scale(text: &str) -> Result<Scale, ValueError> {
    let scale = if text.starts_with(['+', '-']) {
        text.parse().map(Scale::By).ok().filter(|scale| *scale != Scale::By(0))
    } else {
        text.parse().map(Scale::To).ok().filter(|scale| *scale != Scale::To(0))
    };
    scale.ok_or(ValueError::Scale)
}

/// A worker as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerAt {
    /// `slot:2` or `pid:4711`.
    Known(Which),
    /// A number, which may be either.
    Number(u32),
}

impl FromStr for WorkerAt {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (kind, number) = text.split_once(':').unwrap_or(("", text));
        let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|number| number.parse().ok()).ok_or(ValueError::Worker)?;
        match kind {
            "" if !text.starts_with(':') => Ok(Self::Number(number)),
            "slot" => Ok(Self::Known(Which::Slot(number))),
            "pid" => Ok(Self::Known(Which::Pid(number))),
            _ => Err(ValueError::Worker),
        }
    }
}

/// Which variable holds the slot, beside `WORKER_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InstanceIn {
    /// None.
    Nothing,
    /// This one.
    Variable(InstanceEnv),
}

impl FromStr for InstanceIn {
    type Err = VariableError;

    fn from_str(text: &str) -> Result<Self, VariableError> {
        Ok(if text == "none" { Self::Nothing } else { Self::Variable(text.parse()?) })
    }
}

/// Where the control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlAt {
    /// There is none.
    Off,
    /// Here.
    Path(PathBuf),
}

impl ControlAt {
    /// How it is written that there is none.
    pub(crate) const OFF: &str = "none";
}

impl ValueParserFactory for ControlAt {
    type Parser = ValueParser;

    /// A path may be anything, also no UTF-8.
    fn value_parser() -> ValueParser {
        OsStringValueParser::new().try_map(control).into()
    }
}

fn control(text: OsString) -> Result<ControlAt, ValueError> {
    match text.as_encoded_bytes() {
        b"" => Err(ValueError::Control),
        path if path == ControlAt::OFF.as_bytes() => Ok(ControlAt::Off),
        path if path.ends_with(b"/") => Err(ValueError::ControlDirectory),
        path if path.starts_with(b"@") || path.starts_with(b"unix:") => Err(ValueError::ControlAddress),
        _ => Ok(ControlAt::Path(text.into())),
    }
}

/// Where Node workers keep compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheIn {
    /// Nowhere.
    Nothing,
    /// Here.
    Place(CompileCache),
}

impl CacheIn {
    /// How it is written that it is where the environment says.
    pub(crate) const AUTO: &str = "auto";
}

impl ValueParserFactory for CacheIn {
    type Parser = ValueParser;

    /// A path may be anything, also no UTF-8.
    fn value_parser() -> ValueParser {
        OsStringValueParser::new().try_map(cache).into()
    }
}

fn cache(text: OsString) -> Result<CacheIn, ValueError> {
    match text.to_str() {
        Some("") => Err(ValueError::Cache),
        Some("none") => Ok(CacheIn::Nothing),
        Some(CacheIn::AUTO) => Ok(CacheIn::Place(CompileCache::Usual)),
        Some(_) | None => Ok(CacheIn::Place(CompileCache::In(text.into()))),
    }
}

/// Where the config file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigAt {
    /// Beside the server file, as if nothing were said: an empty variable.
    Beside,
    /// There is none.
    Off,
    /// Here.
    Path(PathBuf),
}

impl From<OsString> for ConfigAt {
    fn from(text: OsString) -> Self {
        match text.to_str() {
            Some("") => Self::Beside,
            Some("none") => Self::Off,
            Some(_) | None => Self::Path(text.into()),
        }
    }
}

/// [`DrainSignal`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum DrainSignalArg {
    #[value(alias = "SIGTERM")]
    Term,
    #[value(alias = "SIGINT")]
    Int,
    #[value(alias = "SIGQUIT")]
    Quit,
    #[value(alias = "SIGHUP")]
    Hup,
    #[value(alias = "SIGUSR1")]
    Usr1,
    #[value(alias = "SIGUSR2")]
    Usr2,
    #[value(alias = "SIGWINCH")]
    Winch,
}

impl From<DrainSignalArg> for DrainSignal {
    fn from(arg: DrainSignalArg) -> Self {
        match arg {
            DrainSignalArg::Term => Self::Term,
            DrainSignalArg::Int => Self::Int,
            DrainSignalArg::Quit => Self::Quit,
            DrainSignalArg::Hup => Self::Hup,
            DrainSignalArg::Usr1 => Self::Usr1,
            DrainSignalArg::Usr2 => Self::Usr2,
            DrainSignalArg::Winch => Self::Winch,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_count_is_a_number_from_one_on() {
        assert_eq!(count("3").map(NonZeroU32::get), Ok(3));
        for text in ["0", "-1", "", "three", "99999999999"] {
            assert_eq!(count(text), Err(ValueError::Count), "{text}");
        }
    }

    #[test]
    fn workers_are_a_number_or_max() {
        assert_eq!(workers("3").map(NonZeroU32::get), Ok(3));
        assert!(workers("max").is_ok_and(|cores| cores.get() >= 1));
        for text in ["0", "-1", "", "two", "1.5", "99999999999"] {
            assert_eq!(workers(text), Err(ValueError::Workers), "{text}");
        }
    }

    #[test]
    fn a_control_socket_has_a_path_of_any_bytes_or_there_is_none() {
        let path = OsString::from_vec(b"/run/\xff".to_vec());
        assert_eq!(control(path.clone()), Ok(ControlAt::Path(path.into())));
        assert_eq!(control("none".into()), Ok(ControlAt::Off));
        assert_eq!(control("".into()), Err(ValueError::Control));
        assert_eq!(control("/run/".into()), Err(ValueError::ControlDirectory));
        for address in ["@name", "unix:@name", "unix:/run/a.sock"] {
            assert_eq!(control(address.into()), Err(ValueError::ControlAddress), "{address}");
        }
        assert_eq!(control("./@name".into()), Ok(ControlAt::Path("./@name".into())));
    }

    #[test]
    fn compiled_code_is_in_a_directory_of_any_bytes_in_the_usual_one_or_nowhere() {
        let path = OsString::from_vec(b"/run/\xff".to_vec());
        let place = CacheIn::Place(CompileCache::In(path.clone().into()));
        assert_eq!(cache(path), Ok(place));
        assert_eq!(cache("auto".into()), Ok(CacheIn::Place(CompileCache::Usual)));
        assert_eq!(cache("none".into()), Ok(CacheIn::Nothing));
        assert_eq!(cache("".into()), Err(ValueError::Cache));
    }

    #[test]
    fn a_umask_is_octal() {
        assert_eq!(
            (umask("027"), umask("22"), umask("0"), umask("0777")),
            (Ok(0o27), Ok(0o22), Ok(0), Ok(0o777))
        );
        for text in ["", "8", "0o27", "1000", "-1", "+7", "00027", "u=rwx"] {
            assert_eq!(umask(text), Err(ValueError::Umask), "{text}");
        }
    }

    #[test]
    fn a_surge_is_a_number_or_all() {
        assert_eq!(surge("all"), Ok(Surge::All));
        assert_eq!(surge("2"), Ok(Surge::AtMost(NonZeroU32::new(2).unwrap())));
        for text in ["0", "", "none", "-1"] {
            assert_eq!(surge(text), Err(ValueError::Surge), "{text}");
        }
    }

    #[test]
    fn a_worker_is_a_number_or_says_of_what() {
        assert_eq!("2".parse(), Ok(WorkerAt::Number(2)));
        assert_eq!("slot:2".parse(), Ok(WorkerAt::Known(Which::Slot(2))));
        assert_eq!("pid:4711".parse(), Ok(WorkerAt::Known(Which::Pid(4711))));
        for text in ["", ":2", "two", "+2", "-1", "slot:", "worker:2", "99999999999"] {
            assert_eq!(text.parse::<WorkerAt>(), Err(ValueError::Worker), "{text}");
        }
    }

    #[test]
    fn a_slot_is_in_no_variable_or_in_one() {
        assert_eq!("none".parse(), Ok(InstanceIn::Nothing));
        assert!("NODE_APP_INSTANCE".parse::<InstanceIn>().is_ok_and(|named| named != InstanceIn::Nothing));
        assert!("WORKER_ID".parse::<InstanceIn>().is_err());
    }

    #[test]
    fn a_scale_is_absolute_or_relative() {
        assert_eq!(scale("4"), Ok(Scale::To(4)));
        assert_eq!(scale("+2"), Ok(Scale::By(2)));
        assert_eq!(scale("-2"), Ok(Scale::By(-2)));
        for text in ["0", "+0", "-0", "", "+", "--1", "four", "99999999999"] {
            assert_eq!(scale(text), Err(ValueError::Scale), "{text}");
        }
    }
}
