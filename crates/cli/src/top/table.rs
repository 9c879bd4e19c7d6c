//! The table: a row for each slot.

use super::columns::{GAP, Shown, fitting};
use super::pen::{Pen, Piece, fitted};
use super::rows::{Column, Row};
use super::scene::Scene;
use super::theme::Theme;
use ratatui_core::style::Style;

/// Writes the titles and as many rows as there is room for: those around the chosen one.
pub(super) fn table(pen: &mut Pen<'_>, scene: &Scene<'_>, rows: &[Row<'_>], room: usize) {
    let columns = fitting(rows, pen.width());
    pen.band(&titles(&columns, scene), Theme::reversed());
    let room = room.max(1);
    let chosen = rows.iter().position(|row| Some(row.slot.slot) == scene.ui.chosen).unwrap_or(0);
    let fits = rows.len() <= room;
    // One line says how many there are besides.
    let shown = if fits { rows.len() } else { room.saturating_sub(1).max(1) };
    let first = chosen.saturating_sub(shown / 2).min(rows.len().saturating_sub(shown));
    for row in rows.iter().skip(first).take(shown) {
        line(pen, scene, row, &columns);
    }
    if !fits && room > 1 {
        let last = first + shown;
        pen.line(&[(&format!("({} to {last} of {} slots)", first + 1, rows.len()), Theme::dim())]);
    }
}

/// How many lines of a screen the rows need.
pub(super) fn needs(rows: &[Row<'_>]) -> usize {
    rows.len().max(1)
}

fn titles(columns: &[Shown], scene: &Scene<'_>) -> String {
    let title = |shown: &Shown| {
        let sorted = shown.column == scene.ui.sort && (shown.column != Column::Slot || scene.ui.reversed);
        let mark = if sorted && shown.column.title().len() < shown.width { "*" } else { "" };
        fitted(&format!("{}{mark}", shown.column.title()), shown.width, is_number(shown))
    };
    columns.iter().map(title).collect::<Vec<_>>().join(&" ".repeat(GAP))
}

fn line(pen: &mut Pen<'_>, scene: &Scene<'_>, row: &Row<'_>, columns: &[Shown]) {
    let gap = " ".repeat(GAP);
    let cell = |shown: &Shown| fitted(&row.cell(shown.column, shown.past), shown.width, is_number(shown));
    let cells: Vec<(String, Style)> =
        columns.iter().map(|shown| (cell(shown), style(scene, row, shown.column))).collect();
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    for (text, style) in &cells {
        pieces.extend([(text.as_str(), *style), (&gap, Theme::plain())]);
    }
    // Behind the last cell there is nothing, which would not fit.
    pieces.pop();
    pen.line(&pieces);
    if Some(row.slot.slot) == scene.ui.chosen {
        pen.mark(Theme::reversed());
    }
}

fn style(scene: &Scene<'_>, row: &Row<'_>, column: Column) -> Style {
    if column == Column::State { scene.theme.state(row.state()) } else { Theme::plain() }
}

/// Numbers stand at the right of their column.
fn is_number(shown: &Shown) -> bool {
    !(matches!(shown.column, Column::State | Column::Says) || shown.past > 0)
}
