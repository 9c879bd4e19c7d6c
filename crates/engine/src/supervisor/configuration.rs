//! What is in force, for people: what was said, what it comes to, and what was changed since.

use crate::config::ready::ReadyWhen;
use crate::process::program::ResolvedProgram;
use crate::report::configuration::{Configuration, Origin, Setting};
use crate::supervisor::input::InForce;
use crate::supervisor::spec::Spec;

/// None where nobody has said anything for people.
pub(super) fn in_force(spec: &Spec, program: Option<&ResolvedProgram>, slots: u32) -> Option<InForce> {
    let said = spec.said.clone()?;
    let mut shown = Configuration::clone(&said);
    let settings = spec.settings();
    shown.work_out("timeout", format!("{}s", settings.timeout.as_secs_f64()));
    shown.work_out("stop-timeout", format!("{}s", settings.stop_timeout.as_secs_f64()));
    if let Some(program) = program {
        shown.work_out("ready-when", name(spec.ready_when(program)));
    }
    shown.comes_to("workers", slots.to_string());
    if slots != settings.workers {
        shown.put(Setting::new("workers", vec![slots.to_string()], Origin::Scale, true));
    }
    for name in spec.program.set_at_reloads.names() {
        let variable = Setting::new(format!("env.{name}"), Vec::new(), Origin::Reload, true);
        shown.put(variable.shown_as(None));
    }
    Some(InForce { said, shown })
}

fn name(when: ReadyWhen) -> &'static str {
    match when {
        ReadyWhen::Listening => "listening",
        ReadyWhen::Started => "started",
        ReadyWhen::Ready => "ready",
        ReadyWhen::Notify => "notify",
    }
}
