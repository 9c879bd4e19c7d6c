//! Draws the screen: what is known becomes characters in a buffer. It does nothing else.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::detail::detail;
use super::header::header;
use super::lists::{events, lines_of, others};
use super::pen::Pen;
use super::rows;
use super::scene::Scene;
use super::table::{needs, table};
use super::theme::Theme;
use super::ui::Page;

/// The least terminal on which it makes sense.
const LEAST: (u16, u16) = (60, 14);
/// The most room that is kept for events, with their title.
const EVENTS: usize = 4;

const KEYS: &str = "q quit  ? keys  ↑↓ slot  enter detail  l lines  s sort  r reload  k replace  + -";

const HELP: [(&str, &str); 13] = [
    ("q, ^C", "leave"),
    ("↑ ↓ PgUp PgDn", "choose a slot"),
    ("enter", "all about the worker of the slot; enter or esc leads back"),
    ("l", "what the workers of the slot wrote last; l or esc leads back"),
    ("s", "sort by the next column, greatest first"),
    ("S", "the other way around"),
    ("r", "reload: every worker gives way to one with the new code"),
    ("k", "replace the worker by one of the same code, after a question"),
    ("+ -", "one worker more, one fewer"),
    ("^L", "draw everything again"),
    ("^Z", "suspend"),
    ("CPU, ELU", "100% is one processor, or an event loop that never rests"),
    ("LAG, P99, 5XX", "what Node workers report; - where they do not"),
];

/// Draws all of it.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>) {
    let mut pen = Pen::new(buffer, area);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!("too small: top needs {} × {} characters", LEAST.0, LEAST.1);
        return pen.line(&[(&words, Theme::plain())]);
    }
    let rest = below(&mut pen, scene, area);
    let mut pen = Pen::new(buffer, rest);
    header(&mut pen, scene);
    pen.skip();
    let rows = scene.rows();
    let chosen = rows.iter().find(|row| Some(row.slot.slot) == scene.ui.chosen);
    match (scene.ui.page, chosen) {
        (Page::Help, _) => help(&mut pen),
        (Page::Detail, Some(row)) => detail(&mut pen, scene, row),
        (Page::Lines, Some(row)) => lines_of(&mut pen, scene, row.slot.slot),
        (Page::Table | Page::Detail | Page::Lines | Page::Question(_), _) => overview(&mut pen, scene, &rows),
    }
}

/// The table and the lists below it, each with its share of the room.
fn overview(pen: &mut Pen<'_>, scene: &Scene<'_>, rows: &[rows::Row<'_>]) {
    let leaving = scene.facts.status.as_ref().map(rows::others).unwrap_or_default();
    let room = pen.left().saturating_sub(1 + EVENTS.min(pen.left() / 3));
    let for_others = if leaving.is_empty() { 0 } else { (leaving.len() + 1).min(room / 2) };
    let for_rows = needs(rows).min(room - for_others);
    if !rows.is_empty() {
        table(pen, scene, rows, for_rows);
    }
    others(pen, scene, &leaving, for_others);
    if pen.left() > EVENTS {
        pen.skip();
    }
    events(pen, scene);
}

fn help(pen: &mut Pen<'_>) {
    pen.band("KEYS AND COLUMNS", Theme::reversed());
    for (key, words) in HELP {
        pen.line(&[(&format!("{key:<15}"), Theme::strong()), (words, Theme::plain())]);
    }
}

/// Writes the last lines: how something ended that was asked for, and a question or the keys. Returns what is above.
fn below(pen: &mut Pen<'_>, scene: &Scene<'_>, area: Rect) -> Rect {
    let note = scene.ui.note(scene.now);
    let lines = 1 + u16::from(note.is_some());
    pen.down_to(lines.into());
    if let Some(note) = note {
        let style = if note.is_good { scene.theme.good() } else { scene.theme.bad() };
        pen.line(&[(&note.words, style)]);
    }
    match scene.ui.page {
        Page::Question(wish) => {
            pen.line(&[(&format!("{wish}? y yes, any other key no"), Theme::strong())]);
        }
        Page::Table | Page::Detail | Page::Lines | Page::Help => pen.line(&[(KEYS, Theme::dim())]),
    }
    Rect { height: area.height - lines, ..area }
}
