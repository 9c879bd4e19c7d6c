//! Mutants of the settings that come with a reload, and of who says how many slots there are.

use crate::{Edit, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "what has ended is started again before the next reload",
        edits: &[Edit {
            file: "reconcile/fill.rs",
            old: "self.settings.hold && self.reload.is_none()",
            new: "self.settings.hold && self.reload.is_some()",
        }],
    },
    Mutant {
        name: "a new worker does not wait until the old one is gone",
        edits: &[Edit {
            file: "reconcile/fill.rs",
            old: "self.settings.gone_first && self.workers.iter().any(leaves)",
            new: "self.settings.gone_first && self.workers.iter().all(leaves)",
        }],
    },
    Mutant {
        name: "a change that goes on is taken as it is",
        edits: &[Edit {
            file: "changes.rs",
            old: "(last + pace.settles).min(first + pace.patience)",
            new: "first + pace.settles",
        }],
    },
    Mutant {
        name: "a change that never settles is never taken",
        edits: &[Edit {
            file: "changes.rs",
            old: "(last + pace.settles).min(first + pace.patience)",
            new: "first.max(last + pace.settles)",
        }],
    },
    Mutant {
        name: "reloads for changed files come as often as they change",
        edits: &[Edit {
            file: "changes.rs",
            old: "Waiting { span: None, last: Some(now) }",
            new: "Waiting { span: None, last: None }",
        }],
    },
    Mutant {
        name: "the settings of a reload hold as soon as it is asked for",
        edits: &[Edit {
            file: "record.rs",
            old: "self.pending.get_or_insert_default().ask(caller, config);",
            new: "self.pending.get_or_insert_default().ask(caller, config);\n            self.settings = config.map_or(self.settings, Config::into_settings);",
        }],
    },
    Mutant {
        name: "a rollback keeps the settings of what failed",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            self.configure(reload.before);\n",
            new: "",
        }],
    },
    Mutant {
        name: "a rollback brings back the settings of what was superseded",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            before = older.before;\n",
            new: "            before = self.settings;\n",
        }],
    },
    Mutant {
        name: "the first word counts of several reloads that wait together",
        edits: &[Edit { file: "reload.rs", old: "if config.is_some() {", new: "if self.config.is_none() {" }],
    },
    Mutant {
        name: "fewer slots come when the reload begins",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "self.resize(sizing.from.max(sizing.to));",
            new: "self.resize(sizing.to);",
        }],
    },
    Mutant {
        name: "a rollback keeps the slots of what failed",
        edits: &[Edit {
            file: "reconcile/conclude.rs",
            old: "            self.resize(reload.sizing.map_or(self.size(), |sizing| sizing.from));\n",
            new: "",
        }],
    },
    Mutant {
        name: "a verdict takes back how many slots were asked for during the reload",
        edits: &[Edit { file: "size.rs", old: "reload.sizing = None;", new: "drop(reload.sizing);" }],
    },
    Mutant {
        name: "a reload that waited overrules how many slots were asked for meanwhile",
        edits: &[Edit {
            file: "size.rs",
            old: "pending.overruled = true;",
            new: "pending.overruled = false;",
        }],
    },
    Mutant {
        name: "settings that name the same number overrule a scale",
        edits: &[Edit {
            file: "size.rs",
            old: "Some(config) if config.settings().workers != named => config.settings().workers,",
            new: "Some(config) if named > 0 => config.settings().workers,",
        }],
    },
    Mutant {
        name: "a slot that is to go gets a worker of the new generation",
        edits: &[Edit { file: "reconcile/fill.rs", old: "slot.id.get() < stay &&", new: "stay > 0 &&" }],
    },
];
