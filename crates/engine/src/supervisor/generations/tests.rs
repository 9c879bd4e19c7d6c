//! What generations run, and what people are told of it.

use std::io;
use std::time::{Duration, Instant};

use recluster_core::{Action, Cause, Event, Failure, Notice, WorkerId};

use super::*;
use crate::config::balance::Balance;
use crate::process::runtime::NodeKind;
use crate::supervisor::fixtures;
use crate::supervisor::policy::{Clock, Policy};
use crate::supervisor::spec::Draft;
use crate::upgrade::fixtures::inherited;

/// A spec that is told from others by its kill timeout.
fn spec(seconds: u64) -> Spec {
    let mut draft = Draft::new(PathBuf::from("/bin/sh"));
    draft.settings.kill_timeout = Duration::from_secs(seconds);
    draft.check(&Balance::default()).unwrap().0
}

fn generations() -> Generations {
    let spec = spec(0);
    let first = spec.program.resolve().unwrap();
    Generations::new(spec, first)
}

fn say(generations: &mut Generations, spec: Spec) {
    generations.specify(Some(Box::new(spec)), Variables::default()).unwrap();
}

/// Nothing watches where nothing did at the start, and a slot that is held back would be for ever.
#[test]
fn a_reload_does_not_change_whether_source_is_watched() {
    let watched = |hold| {
        let mut draft = Draft::new(PathBuf::from("/bin/sh"));
        (draft.settings.hold, draft.settings.kill_timeout) = (hold, Duration::from_secs(9));
        draft.check(&Balance::default()).unwrap().0
    };
    for at_start in [false, true] {
        let first = spec(0).program.resolve().unwrap();
        let mut generations = Generations::new(watched(at_start), first);
        let told = generations.specify(Some(Box::new(watched(!at_start))), Variables::default()).unwrap();
        let settings = *told.config.unwrap().settings();
        assert_eq!((settings.hold, settings.kill_timeout.as_secs()), (at_start, 9));
    }
}

fn in_force(generations: &Generations) -> u64 {
    generations.spec().settings().kill_timeout.as_secs()
}

/// Four generations, as a policy counts them when each reload supersedes the one before; and a failure.
fn numbers() -> (Vec<Generation>, Failure) {
    let began = Instant::now();
    let mut policy = Policy::new(spec(0).config, Clock::starting(began));
    let mut numbers = Vec::new();
    for round in 0..4 {
        let now = began + Duration::from_secs(10 * round);
        while let Some(action) = policy.next_action(now) {
            if let Action::Notify(Notice::GenerationBegan { generation }) = action {
                numbers.push(generation);
            }
        }
        policy.tell(Event::Reload { caller: None, config: None });
    }
    let slot = policy.status().slots[0].slot;
    let worker = WorkerId::from_number(1);
    (numbers, Failure { worker, slot, cause: Cause::Retired, failures: 1 })
}

#[test]
fn what_was_said_last_is_in_force_from_the_beginning_of_its_generation() {
    let (numbers, _) = numbers();
    let mut generations = generations();
    say(&mut generations, spec(1));
    say(&mut generations, spec(2));
    assert_eq!(in_force(&generations), 0, "it waits");
    generations.begin(numbers[1], numbers[0]);
    assert_eq!(in_force(&generations), 2);
    generations.end(Some(numbers[1]), core::Verdict::Done);
    assert_eq!(in_force(&generations), 2);
}

#[test]
fn a_rollback_puts_back_what_was_proven_however_many_reloads_gave_way() {
    let (numbers, failure) = numbers();
    let mut generations = generations();
    for (round, generation) in numbers.iter().enumerate().skip(1) {
        say(&mut generations, spec(round as u64));
        generations.begin(*generation, numbers[0]);
        assert_eq!(in_force(&generations), round as u64);
    }
    generations.end(numbers.last().copied(), core::Verdict::RolledBack(failure));
    assert_eq!(in_force(&generations), 0);
    generations.end(numbers.last().copied(), core::Verdict::RolledBack(failure));
    assert_eq!(in_force(&generations), 0, "there is nothing to put back any more");
}

#[test]
fn a_reload_that_never_begins_changes_nothing() {
    let (numbers, _) = numbers();
    let mut generations = generations();
    say(&mut generations, spec(1));
    generations.end(None, core::Verdict::Abandoned);
    generations.begin(numbers[1], numbers[0]);
    assert_eq!(in_force(&generations), 0);
}

#[test]
fn a_reload_that_stopped_part_way_keeps_the_new() {
    let (numbers, failure) = numbers();
    let mut generations = generations();
    say(&mut generations, spec(1));
    generations.begin(numbers[1], numbers[0]);
    generations.end(Some(numbers[1]), core::Verdict::StoppedPartWay { replaced: 1, of: 2, failure });
    assert_eq!(in_force(&generations), 1);
}

#[test]
fn a_caveat_is_told_once_until_it_is_another() {
    let (numbers, _) = numbers();
    let mut generations = generations();
    let told = |generations: &mut Generations, generation, kind| {
        let program = generations.program(generation).unwrap().clone();
        let program = match kind {
            Some(kind) => fixtures::under(kind, program),
            None => program,
        };
        generations.programs.insert(generation, Ok(Arc::new(program)));
        let caveats = generations.new_caveats(generation, true);
        caveats.iter().map(|caveat| caveat.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(told(&mut generations, numbers[0], None).is_empty());
    generations.begin(numbers[1], numbers[0]);
    assert_eq!(told(&mut generations, numbers[1], Some(NodeKind::Deno)), ["Deno"]);
    generations.begin(numbers[2], numbers[1]);
    assert!(told(&mut generations, numbers[2], Some(NodeKind::Deno)).is_empty());
    generations.begin(numbers[3], numbers[2]);
    assert_eq!(told(&mut generations, numbers[3], Some(NodeKind::Bun)), ["Bun"]);
}

#[test]
fn generations_that_nobody_runs_are_forgotten() {
    let (numbers, _) = numbers();
    let mut generations = generations();
    generations.begin(numbers[1], numbers[0]);
    assert!(generations.program(numbers[0]).is_some());
    generations.begin(numbers[2], numbers[1]);
    assert!(generations.program(numbers[0]).is_none());
    assert!(generations.program(numbers[1]).is_some());
    let error = generations.program_for_spawn(numbers[0]).unwrap_err();
    assert_eq!(error.reason, "generation 1 is forgotten");
}

fn set(name: &str, value: &str) -> Variables {
    Variables::new([(name, value)]).unwrap()
}

fn value(generations: &mut Generations, generation: Generation, name: &str) -> Option<String> {
    let program = generations.program_for_spawn(generation).unwrap();
    program.env.get(std::ffi::OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
}

#[test]
fn what_a_reload_sets_stays_for_later_generations_and_is_forgotten_after_a_rollback() {
    let (numbers, failure) = numbers();
    let mut generations = generations();
    assert!(generations.specify(None, set("A", "1")).unwrap().config.is_none());
    // Another one waits with it.
    generations.specify(Some(Box::new(spec(1))), set("B", "2")).unwrap();
    generations.begin(numbers[1], numbers[0]);
    generations.end(Some(numbers[1]), core::Verdict::Done);
    generations.specify(None, set("A", "3")).unwrap();
    generations.begin(numbers[2], numbers[0]);
    assert_eq!(value(&mut generations, numbers[2], "A").as_deref(), Some("3"));
    assert_eq!(value(&mut generations, numbers[1], "A").as_deref(), Some("1"), "a respawn has its own");
    generations.end(Some(numbers[2]), core::Verdict::RolledBack(failure));
    generations.specify(None, Variables::default()).unwrap();
    generations.begin(numbers[3], numbers[0]);
    assert_eq!(value(&mut generations, numbers[3], "A").as_deref(), Some("1"));
    assert_eq!(value(&mut generations, numbers[3], "B").as_deref(), Some("2"));
    assert_eq!(value(&mut generations, numbers[0], "A"), None);
}

#[test]
fn what_is_rolled_back_does_not_come_in_with_the_reload_that_waits_behind_it() {
    let (numbers, failure) = numbers();
    let mut generations = generations();
    generations.specify(Some(Box::new(spec(1))), set("A", "bad")).unwrap();
    generations.begin(numbers[1], numbers[0]);
    generations.specify(None, set("B", "2")).unwrap();
    generations.end(Some(numbers[1]), core::Verdict::RolledBack(failure));
    generations.begin(numbers[2], numbers[0]);
    assert_eq!(in_force(&generations), 0);
    assert_eq!(value(&mut generations, numbers[2], "A"), None);
    assert_eq!(value(&mut generations, numbers[2], "B").as_deref(), Some("2"));
}

#[test]
fn files_come_before_the_masters_environment_and_are_what_they_were_when_a_generation_began() {
    let (numbers, _) = numbers();
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    let mut draft = Draft::new(PathBuf::from("/bin/sh"));
    draft.program.environment = Some([("A".into(), "master".into()), ("M".into(), "master".into())].into());
    for file in [&one, &two] {
        draft.program.add_env_file(file);
    }
    draft.program.env.insert("D".into(), "said".into());
    std::fs::write(&one, "A=1\nB=1\nC=1\nD=1\nE=1").unwrap();
    std::fs::write(&two, "B=2\nC=2\nD=2\nE=2").unwrap();
    let (spec, first) = draft.check(&Balance::default()).unwrap();
    let mut generations = Generations::new(spec, first);
    std::fs::write(&two, "B=3\nE=3").unwrap();
    generations.specify(None, set("E", "set")).unwrap();
    generations.begin(numbers[1], numbers[0]);
    let mut all = |generation| {
        ["A", "B", "C", "D", "E", "M"].map(|name| value(&mut generations, generation, name).unwrap())
    };
    assert_eq!(all(numbers[0]), ["1", "2", "2", "said", "2", "master"]);
    assert_eq!(all(numbers[1]), ["1", "3", "1", "said", "set", "master"]);
    assert_eq!(generations.program(numbers[1]).unwrap().given, ["A", "B", "C", "D", "E"]);
    std::fs::write(&two, "B").unwrap();
    let error = generations.specify(None, Variables::default()).unwrap_err();
    assert!(error.ends_with("two:1: neither NAME=VALUE nor a # comment"), "{error}");
    assert!(generations.pending.is_none(), "nothing was touched");
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_is_what_it_was_when_its_generation_began() {
    let (numbers, _) = numbers();
    let directory = tempfile::tempdir().unwrap();
    let current = directory.path().join("current");
    let release = |name: &str| {
        let server = directory.path().join(name);
        executable(&server);
        let _ = std::fs::remove_file(&current);
        std::os::unix::fs::symlink(server, &current).unwrap();
    };
    release("one");
    let (spec, first) = Draft::new(current.clone()).check(&Balance::default()).unwrap();
    let mut generations = Generations::new(spec, first);
    release("two");
    let runs = |generations: &mut Generations, generation| {
        generations.program_for_spawn(generation).unwrap().server.file_name().unwrap().to_owned()
    };
    assert_eq!(runs(&mut generations, numbers[0]), "one");
    generations.begin(numbers[1], numbers[0]);
    release("three");
    assert_eq!(runs(&mut generations, numbers[1]), "two");
    assert_eq!(runs(&mut generations, numbers[0]), "one");
    let numbered = |number| generations.program_numbered(number)?.server.file_name();
    assert_eq!([1, 2, 3].map(numbered), [Some("one".as_ref()), Some("two".as_ref()), None]);
}

#[test]
fn a_generation_whose_files_are_gone_runs_what_its_path_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two, current] = ["one", "two", "current"].map(|name| directory.path().join(name));
    executable(&one);
    executable(&two);
    std::os::unix::fs::symlink("one", &current).unwrap();
    let (spec, first) = Draft::new(current.clone()).check(&Balance::default()).unwrap();
    let mut generations = Generations::new(spec, first);
    std::fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("two", &current).unwrap();
    assert_eq!(generations.follow(Generation::FIRST), Ok(None), "its own files are there");
    std::fs::remove_file(&one).unwrap();
    let (gone, server) = generations.follow(Generation::FIRST).unwrap().unwrap();
    assert_eq!((gone.file_name(), server.file_name()), (one.file_name(), two.file_name()));
    assert_eq!(generations.program_for_spawn(Generation::FIRST).unwrap().server, server);
    assert_eq!(generations.follow(Generation::FIRST), Ok(None), "that is told once");
    std::fs::remove_file(&two).unwrap();
    let reason = generations.follow(Generation::FIRST).unwrap_err().reason;
    let expected = format!("/two is gone, and server file not found: {}", current.display());
    assert!(reason.ends_with(&expected), "{reason}");
}

#[test]
fn a_program_that_cannot_be_resolved_fails_its_own_generation_alone() {
    let (numbers, _) = numbers();
    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("server");
    executable(&server);
    let (spec, first) = Draft::new(server.clone()).check(&Balance::default()).unwrap();
    let mut generations = Generations::new(spec, first);
    std::fs::remove_file(&server).unwrap();
    generations.begin(numbers[1], numbers[0]);
    executable(&server);
    let error = generations.program_for_spawn(numbers[1]).unwrap_err();
    assert_eq!(error.failure, SpawnFailure::Hopeless);
    assert_eq!(error.reason, format!("server file not found: {}", server.display()));
    assert!(generations.program_for_spawn(numbers[0]).is_ok());
}

#[test]
fn only_what_the_machine_was_short_of_is_worth_another_try() {
    let not_runnable = |errno| ProgramError::NotRunnable {
        path: PathBuf::new(),
        source: io::Error::from_raw_os_error(errno),
    };
    assert_eq!(failure_of(&not_runnable(libc::EMFILE)), SpawnFailure::Temporary);
    assert_eq!(failure_of(&not_runnable(libc::EACCES)), SpawnFailure::Hopeless);
    let mut generations = generations();
    let short = SpawnError { failure: SpawnFailure::Temporary, reason: "too many open files".to_owned() };
    generations.programs.insert(Generation::FIRST, Err(short));
    assert!(generations.program(Generation::FIRST).is_none());
    assert!(generations.program_for_spawn(Generation::FIRST).is_ok());
}

/// An upgrade needs nothing of it again: its file may be gone.
#[test]
fn what_runs_is_known_from_what_was_left_although_its_file_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let (spec, first) = Draft::new(program.clone()).check(&Balance::default()).unwrap();
    let mut saving = Saving::new("test");
    Generations::new(spec, first.clone()).save(&mut saving).unwrap();
    std::fs::remove_file(&program).unwrap();
    let running = Generations::program_left(&inherited(saving)).unwrap().unwrap();
    assert_eq!(format!("{running:?}"), format!("{first:?}"));
    let draft = Draft::new(program);
    assert!(draft.clone().check(&Balance::default()).is_err());
    assert_eq!(draft.of(running, &Balance::default()).unwrap().1.server, first.server);
}
