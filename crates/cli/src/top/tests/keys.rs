//! What keys do.

use super::super::rows::Column;
use super::super::ui::{Does, Entry, Key, Page, Wish};
use super::*;

const ENTRIES: [Entry; 3] =
    [Entry { slot: 2, pid: Some(12) }, Entry { slot: 0, pid: None }, Entry { slot: 1, pid: Some(11) }];
const SORTS: [Column; 3] = [Column::Slot, Column::Cpu, Column::Memory];

fn press(ui: &mut Ui, key: Key) -> Does {
    ui.press(key, &ENTRIES, &SORTS, Instant::now())
}

#[test]
fn arrows_choose_among_the_rows_as_they_stand() {
    let mut ui = Ui::default();
    let mut chosen = |key| {
        press(&mut ui, key);
        ui.chosen
    };
    let keys =
        [Key::Down, Key::Down, Key::Down, Key::Down, Key::Up, Key::Home, Key::Up, Key::End, Key::PageUp];
    let slots = [2, 0, 1, 1, 0, 2, 2, 1, 2];
    for (key, slot) in keys.into_iter().zip(slots) {
        assert_eq!(chosen(key), Some(slot), "{key:?}");
    }
    let mut ui = Ui::default();
    ui.press(Key::Down, &[], &[], Instant::now());
    assert_eq!(ui.chosen, None, "there is nothing to choose");
    ui.chosen = Some(7);
    press(&mut ui, Key::Down);
    assert_eq!(ui.chosen, Some(2), "the chosen slot is gone");
}

#[test]
fn a_worker_is_replaced_after_a_question_alone() {
    let mut ui = Ui::default();
    assert_eq!(press(&mut ui, Key::Char('k')), Does::Nothing);
    assert!(ui.note(Instant::now()).unwrap().words.contains("choose a worker first"));
    press(&mut ui, Key::End);
    let wish = Wish::Replace { slot: 1, pid: 11 };
    for no in [Key::Char('n'), Key::Escape, Key::Enter, Key::Char('k'), Key::Char('q')] {
        assert_eq!(press(&mut ui, Key::Char('k')), Does::Nothing);
        assert_eq!(ui.page, Page::Question(wish));
        assert_eq!((press(&mut ui, no), ui.page), (Does::Nothing, Page::Table), "{no:?}");
    }
    press(&mut ui, Key::Char('k'));
    assert_eq!((press(&mut ui, Key::Char('y')), ui.page), (Does::Ask(wish), Page::Table));
    press(&mut ui, Key::Up);
    press(&mut ui, Key::Char('k'));
    assert_eq!(ui.page, Page::Table, "the slot has no worker");
}

#[test]
fn the_rest_of_the_keys() {
    let mut ui = Ui::default();
    let asks = [('r', Wish::Reload), ('+', Wish::Scale(1)), ('-', Wish::Scale(-1))];
    for (key, wish) in asks {
        assert_eq!(press(&mut ui, Key::Char(key)), Does::Ask(wish));
    }
    for page in [Page::Table, Page::Help, Page::Detail, Page::Question(Wish::Reload)] {
        ui.page = page;
        assert_eq!(press(&mut ui, Key::Interrupt), Does::Quit, "{page:?}");
        assert_eq!(press(&mut ui, Key::Suspend), Does::Suspend, "{page:?}");
        assert_eq!(press(&mut ui, Key::Redraw), Does::Redraw, "{page:?}");
    }
    ui.page = Page::Help;
    assert_eq!((press(&mut ui, Key::Char('r')), ui.page), (Does::Nothing, Page::Help), "it is read");
    assert_eq!(press(&mut ui, Key::Char('q')), Does::Quit);
    press(&mut ui, Key::Escape);
    press(&mut ui, Key::Enter);
    assert_eq!((ui.page, ui.chosen), (Page::Detail, Some(2)));
    press(&mut ui, Key::Down);
    assert_eq!((ui.page, ui.chosen), (Page::Detail, Some(0)), "the next one's");
    press(&mut ui, Key::Enter);
    assert_eq!(ui.page, Page::Table);
}

#[test]
fn rows_are_sorted_by_one_column_after_the_other() {
    let mut ui = Ui::default();
    let mut sorts = Vec::new();
    for _ in 0..4 {
        press(&mut ui, Key::Char('s'));
        sorts.push(ui.sort);
    }
    assert_eq!(sorts, [Column::Cpu, Column::Memory, Column::Slot, Column::Cpu]);
    press(&mut ui, Key::Char('S'));
    assert!(ui.reversed);
    press(&mut ui, Key::Char('s'));
    assert!(!ui.reversed);
}

#[test]
fn lines_are_looked_at_of_one_slot_as_long_as_they_are_on_the_screen() {
    let mut ui = Ui::default();
    ui.press(Key::Char('l'), &[], &[], Instant::now());
    assert_eq!((ui.page, ui.looks_at_lines_of()), (Page::Table, None), "there is no slot");
    press(&mut ui, Key::Char('l'));
    assert_eq!((ui.page, ui.looks_at_lines_of()), (Page::Lines, Some(2)), "the first one's");
    press(&mut ui, Key::Down);
    assert_eq!(ui.looks_at_lines_of(), Some(0), "the next one's");
    for leave in [Key::Char('l'), Key::Enter, Key::Escape] {
        assert_eq!(
            (press(&mut ui, leave), ui.page, ui.looks_at_lines_of()),
            (Does::Nothing, Page::Table, None)
        );
        press(&mut ui, Key::Char('l'));
    }
    press(&mut ui, Key::Char('?'));
    assert_eq!(ui.looks_at_lines_of(), None);
    press(&mut ui, Key::Escape);
    press(&mut ui, Key::Enter);
    press(&mut ui, Key::Char('l'));
    assert_eq!(ui.looks_at_lines_of(), Some(0), "from the detail");
    assert_eq!(
        press(&mut ui, Key::Char('r')),
        Does::Ask(Wish::Reload),
        "other keys do what they do elsewhere"
    );
}
