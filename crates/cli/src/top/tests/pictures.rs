//! What the screen shows, at several sizes.

use std::time::Duration;

use ratatui_core::style::Color;

use super::super::theme::Theme;
use super::super::ui::{Key, Page};
use super::*;

/// In the middle of everything.
fn full() -> Desk {
    let mut desk = Desk::new();
    desk.look(&status()).look(&later()).look(&busy());
    for event in events() {
        desk.hear(&event);
    }
    desk
}

#[test]
fn a_cluster_in_the_middle_of_everything_at_80_by_24() {
    insta::assert_snapshot!(full().shown(80, 24));
}

#[test]
fn a_cluster_in_the_middle_of_everything_at_120_by_40() {
    insta::assert_snapshot!(full().shown(120, 40));
}

#[test]
fn a_cluster_in_the_middle_of_everything_at_200_by_50() {
    insta::assert_snapshot!(full().shown(200, 50));
}

#[test]
fn a_cluster_at_rest() {
    let mut desk = Desk::new();
    desk.look(&status()).look(&later());
    insta::assert_snapshot!(desk.shown(80, 24));
}

/// A desk that has seen what Node workers report several times.
fn told() -> Desk {
    let mut desk = Desk::new();
    for look in 0..12 {
        desk.look(&reported(look));
    }
    desk
}

#[test]
fn node_workers_that_report_at_80_by_24() {
    insta::assert_snapshot!(told().shown(80, 24));
}

#[test]
fn node_workers_that_report_at_120_by_40() {
    insta::assert_snapshot!(told().shown(120, 40));
}

#[test]
fn node_workers_that_report_at_200_by_50() {
    insta::assert_snapshot!(told().shown(200, 50));
}

#[test]
fn all_about_a_node_worker_that_reports() {
    let mut desk = told();
    desk.ui.chosen = Some(1);
    desk.ui.page = Page::Detail;
    insta::assert_snapshot!(desk.shown(80, 24));
}

#[test]
fn before_anything_is_heard_and_after_the_master_has_gone() {
    let mut desk = Desk::new();
    assert!(desk.shown(80, 24).starts_with("shop  not heard of yet\n"), "{}", desk.shown(80, 24));
    desk.look(&status());
    desk.facts.lose("the master went away".to_owned(), desk.now);
    desk.now += Duration::from_secs(65);
    let shown = desk.shown(80, 24);
    let first = "shop  gone 1m05s ago, shown again when it is back (the master went away)";
    assert!(shown.starts_with(first) && !shown.contains("SLOT"), "{shown}");
    desk.hear(&json!({"event": "stopping", "level": "info"}));
    desk.facts.lose("no cluster answers".to_owned(), desk.now);
    assert!(desk.shown(80, 24).starts_with("shop  stopped 1m05s ago"), "{}", desk.shown(80, 24));
    desk.facts.begin_events();
    desk.look(&status());
    assert!(desk.shown(80, 24).starts_with("shop  running"), "{}", desk.shown(80, 24));
}

#[test]
fn a_small_terminal_shows_one_clear_line() {
    for (width, height) in [(59, 24), (80, 13), (20, 5), (1, 1)] {
        let shown = full().shown(width, height);
        let (first, rest) = shown.split_once('\n').unwrap_or((&shown, ""));
        assert!(
            "too small: top needs 60 × 14 characters".starts_with(first.trim_end_matches('…')),
            "{shown}"
        );
        assert!(rest.trim().is_empty(), "{shown}");
    }
    assert!(full().shown(60, 14).contains("SLOT"));
}

/// A desk with so many slots.
fn many(slots: u32) -> Desk {
    let mut status = status();
    status["workers"] = (0..slots).map(|slot| worker(u64::from(slot) + 5, slot)).collect();
    let slot = |slot: u32| json!({"slot": slot, "active": slot + 5, "restarts": 0, "connections": slot});
    status["slots"] = (0..slots).map(slot).collect();
    let mut desk = Desk::new();
    desk.look(&status);
    desk
}

#[test]
fn where_not_all_slots_fit_those_around_the_chosen_one_are_shown() {
    let mut desk = many(100);
    let shown = desk.shown(80, 24);
    assert!(shown.contains("\n   0 ") && shown.contains("(1 to 13 of 100 slots)"), "{shown}");
    desk.ui.chosen = Some(99);
    let shown = desk.shown(80, 24);
    assert!(shown.contains("\n  99 ") && shown.contains("(88 to 100 of 100 slots)"), "{shown}");
}

#[test]
fn nothing_wraps_and_every_size_has_its_keys_and_rows() {
    for width in [60, 70, 80, 100, 120, 160, 200, 400] {
        for height in [14, 24, 50] {
            let shown = full().shown(width, height);
            assert!(shown.lines().count() <= height.into(), "{shown}");
            // On the smallest one not every slot has room beside all that is wrong.
            let last = if height > 14 { "vacant" } else { "of 3 slots" };
            for part in ["q quit", "SLOT", "serving", last] {
                assert!(shown.contains(part), "{width} × {height}: {part} is missing\n{shown}");
            }
        }
    }
}

/// What a terminal gets must be harmless: no control character comes from what workers say.
#[test]
fn what_workers_say_does_not_reach_the_terminal_as_it_is() {
    let mut desk = full();
    desk.ui.chosen = Some(1);
    for page in [Page::Table, Page::Detail] {
        desk.ui.page = page;
        let shown = desk.shown(200, 50);
        assert!(shown.contains("warming \u{fffd}[2Jthe cache"), "{shown}");
        assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut desk = full();
    let colours = |desk: &Desk| {
        let screen = desk.terminal(120, 40);
        let cells = screen.buffer().content.iter();
        cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert!(colours(&desk) > 0);
    let with = desk.shown(120, 40);
    desk.theme = Theme { colours: false };
    assert_eq!(colours(&desk), 0);
    assert_eq!(desk.shown(120, 40), with, "colours tell nothing that words do not");
}

#[test]
fn all_about_one_worker() {
    let mut desk = full();
    desk.ui.chosen = Some(0);
    desk.ui.page = Page::Detail;
    insta::assert_snapshot!(desk.shown(80, 24));
}

#[test]
fn the_keys_and_a_question_and_an_outcome() {
    let mut desk = full();
    desk.ui.press(Key::Char('?'), &[], &[], desk.now);
    insta::assert_snapshot!(desk.shown(80, 24));
    desk.ui.press(Key::Escape, &[], &[], desk.now);
    desk.ui.say(false, "generation 3 was rolled back".to_owned(), desk.now);
    let last = |desk: &Desk| desk.shown(80, 24).lines().rev().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(last(&desk)[1], "generation 3 was rolled back");
    assert!(last(&desk)[0].starts_with("q quit"));
    desk.now += Duration::from_secs(61);
    assert_ne!(last(&desk)[1], "generation 3 was rolled back", "it is long ago");
}
