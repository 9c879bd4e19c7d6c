//! How things look. Without colours, nothing is told by a colour alone.

use ratatui_core::style::{Color, Modifier, Style};

use super::happened::Importance;

/// With colours, or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

impl Theme {
    pub(super) fn plain() -> Style {
        Style::new()
    }

    pub(super) fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What stands over columns, and what is chosen.
    pub(super) fn reversed() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.coloured(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "serving" | "running" => self.good(),
            "vacant" | "unkillable" | "stopped" | "gone" => self.bad(),
            "starting" | "ready" | "stopping" | "terminating" => self.warning(),
            _ => Self::dim(),
        }
    }

    pub(super) fn event(self, level: Importance) -> Style {
        match level {
            Importance::Routine => Self::dim(),
            Importance::News => Self::plain(),
            Importance::Warning => self.warning(),
            Importance::Failure => self.bad(),
        }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}
