//! What those who read the last lines are told.

use recluster_core::WorkerId;

use super::*;
use crate::report::worker::Worker;

fn source(slot: u32) -> Source {
    let worker = Worker { id: 1, slot, generation: 1, pid: Some(7) };
    Source { id: WorkerId::from_number(1), worker, stream: Stream::Stderr }
}

fn ring() -> Ring {
    Ring::of(vec![Stream::Stderr])
}

fn push(ring: &Ring, slot: u32, lines: impl AsRef<[u8]>) {
    ring.push(source(slot), false, lines.as_ref());
}

/// What is found up to where there is nothing: text, and how much was missed.
fn read(place: &mut Place) -> (String, u64) {
    let (mut text, mut gone) = (String::new(), 0);
    loop {
        match place.next() {
            Found::Piece(piece) => text.push_str(std::str::from_utf8(&piece.lines).unwrap()),
            Found::Missed { lines, .. } => gone += lines,
            Found::Nothing | Found::End => return (text, gone),
        }
    }
}

#[test]
fn lines_of_all_slots_come_in_order_and_those_of_one_alone() {
    let ring = ring();
    for (slot, lines) in [(0, "a\nb\n"), (1, "c\n"), (0, "d\n")] {
        push(&ring, slot, lines);
    }
    let (mut all, mut one) = (ring.place(None, None, true), ring.place(Some(1), None, true));
    assert_eq!(read(&mut all), ("a\nb\nc\nd\n".to_owned(), 0));
    assert_eq!(read(&mut one), ("c\n".to_owned(), 0));
    push(&ring, 1, "e\n");
    push(&ring, 2, "f\n");
    assert_eq!(read(&mut all).0, "e\nf\n", "a slot that is new is among all");
    assert_eq!(read(&mut one).0, "e\n");
    ring.close();
    assert!(matches!(all.next(), Found::End));
}

#[test]
fn who_wants_the_last_ones_gets_so_many_whatever_piece_they_are_in() {
    let ring = ring();
    for (slot, lines) in [(0, "a\nb\nc\n"), (1, "d\n"), (0, "e\nf\n")] {
        push(&ring, slot, lines);
    }
    let last = |slot, last| {
        let mut place = ring.place(slot, Some(last), false);
        let (text, missed) = read(&mut place);
        assert_eq!(missed, 0);
        assert!(matches!(place.next(), Found::End));
        text
    };
    let expected = ["", "f\n", "e\nf\n", "d\ne\nf\n", "c\nd\ne\nf\n"];
    assert_eq!([0, 1, 2, 3, 4].map(|number| last(None, number)), expected);
    assert_eq!(last(None, 99), "a\nb\nc\nd\ne\nf\n");
    assert_eq!((last(Some(0), 3), last(Some(1), 3)), ("c\ne\nf\n".to_owned(), "d\n".to_owned()));
}

#[test]
fn a_line_in_several_pieces_is_one_of_the_last_ones() {
    let ring = ring();
    let long = |byte: u8, times: usize| String::from_utf8(vec![byte; times * LONGEST + 7]).unwrap() + "\n";
    let (first, second) = (long(b'a', 3), long(b'b', 2));
    push(&ring, 0, format!("before\n{first}"));
    push(&ring, 1, "between\n");
    // What is longer than a pipe holds comes a part at a time, and a short line with its end.
    let (begins, ends) = second.split_at(5000);
    push(&ring, 0, begins);
    ring.push(source(0), true, format!("{ends}after\n").as_bytes());
    let lines = ["before\n", &first, "between\n", &second, "after\n"];
    for last in 0..=5 {
        let (text, missed) = read(&mut ring.place(None, Some(last), false));
        assert_eq!((text, missed), (lines[5 - last as usize..].concat(), 0), "{last}");
    }
    assert_eq!(read(&mut ring.place(Some(0), Some(3), false)).0, [&first, &second, "after\n"].concat());
    ring.push(source(0), false, &[b'c'; 2 * LONGEST]);
    assert_eq!(read(&mut ring.place(None, Some(1), false)).0.len(), 2 * LONGEST, "one that has no end yet");
}

#[test]
fn a_line_in_several_pieces_is_missed_once() {
    let ring = ring();
    push(&ring, 0, "first\n");
    let (mut all, mut place) = (ring.place(None, None, true), ring.place(None, Some(0), true));
    for _ in 0..100 {
        push(&ring, 0, vec![b'x'; 3 * LONGEST]);
        ring.push(source(0), true, b"\n");
    }
    let (text, missed) = read(&mut place);
    let begun = text.lines().count() as u64 - u64::from(text.len() % (3 * LONGEST + 1) != 0);
    assert_eq!(begun + missed, 100);
    assert_eq!(read(&mut all).1, missed + 1);
}

#[test]
fn who_does_not_follow_gets_what_was_there() {
    let ring = ring();
    push(&ring, 0, "a\n");
    let mut place = ring.place(None, None, false);
    push(&ring, 0, "b\n");
    push(&ring, 1, "c\n");
    assert_eq!(read(&mut place), ("a\n".to_owned(), 0));
    let mut late = ring.place(None, None, false);
    for _ in 0..=MOST_OF_SLOT / PIECE {
        push(&ring, 0, "d\n");
    }
    assert_eq!(read(&mut late), ("c\n".to_owned(), 2), "and hears of what was there and is gone");
}

#[test]
fn it_is_bounded_in_bytes_and_a_quiet_slot_keeps_its_lines() {
    let ring = ring();
    push(&ring, 9, "quiet\n");
    let mut place = ring.place(None, None, true);
    let mut said = 1;
    for _ in 0..100 {
        for slot in 0..8 {
            push(&ring, slot, b"x\n".repeat(4096));
            said += 4096;
        }
    }
    let kept = ring.lock();
    let bytes: usize = kept.slots.values().map(|slot| slot.bytes).sum();
    assert!(bytes <= MOST_OF_ALL && bytes > MOST_OF_ALL / 2, "{bytes}");
    assert_eq!(bytes, kept.bytes);
    drop(kept);
    let (text, missed) = read(&mut place);
    assert!(text.starts_with("quiet\n"));
    assert_eq!(text.lines().count() as u64 + missed, said);
    assert_eq!(read(&mut ring.place(None, None, true)).1, 0, "one who comes later has missed nothing");
}

#[test]
fn many_slots_and_many_short_or_long_pieces_have_a_bound_as_well() {
    let ring = ring();
    for _ in 0..10_000 {
        push(&ring, 0, "\n");
    }
    let pieces = ring.lock().slots[&0].pieces.len();
    assert!(pieces <= MOST_OF_SLOT / PIECE, "{pieces}");
    for slot in 0..1000 {
        push(&ring, slot, vec![b'x'; 120 << 10]);
    }
    let kept = ring.lock();
    let bytes: usize = kept.slots.values().flat_map(|slot| &slot.pieces).map(|piece| piece.lines.len()).sum();
    assert!(bytes <= MOST_OF_ALL, "{bytes}");
}

#[test]
fn a_long_line_is_kept_in_pieces_that_cut_no_character() {
    let ring = ring();
    let line = "€".repeat(9000) + "\n";
    push(&ring, 0, &line);
    push(&ring, 0, "next\n");
    let mut place = ring.place(None, None, true);
    let mut found = Vec::new();
    while let Found::Piece(piece) = place.next() {
        assert!(piece.lines.len() <= LONGEST);
        found.push((piece.continues, String::from_utf8(piece.lines.to_vec()).unwrap()));
    }
    let (continues, texts): (Vec<bool>, Vec<String>) = found.into_iter().unzip();
    assert_eq!(texts.concat(), line + "next\n");
    assert_eq!(continues, [false, true, true, true, false]);
}

#[tokio::test]
async fn one_who_waits_hears_of_what_came_in_between() {
    let ring = ring();
    let mut place = ring.place(None, None, true);
    assert!(matches!(place.next(), Found::Nothing));
    push(&ring, 0, "a\n");
    place.listener().changed().await.unwrap();
    assert_eq!(read(&mut place).0, "a\n");
}

#[test]
fn no_slot_keeps_more_than_its_bound_however_small_its_pieces_were_before() {
    let ring = ring();
    for _ in 0..1600 {
        push(&ring, 0, "\n");
    }
    for _ in 0..100 {
        push(&ring, 0, [b'x'; LONGEST]);
        let bytes = ring.lock().slots[&0].bytes;
        assert!(bytes <= MOST_OF_SLOT, "{bytes}");
    }
    let kept = ring.lock();
    assert_eq!(kept.bytes, kept.slots[&0].bytes);
}

#[test]
fn what_is_written_ahead_for_another_program_is_left_with_what_came_later_and_without_what_is_forgotten() {
    let ring = ring();
    push(&ring, 1, "early\n");
    for number in 0..40 {
        push(&ring, 0, format!("{number} {}\n", "x".repeat(8000)));
    }
    ring.write_ahead();
    push(&ring, 1, "late\n");
    for number in 40..50 {
        push(&ring, 0, format!("{number} {}\n", "x".repeat(8000)));
    }
    let mut saving = Saving::new("it");
    let left = serde_json::to_string(&ring.save(&mut saving).unwrap()).unwrap();
    assert!(left.contains("late") && !left.contains("early") && left.len() < 100_000);
    let left: Kept = serde_json::from_str(&left).unwrap();
    let other = self::ring();
    other.go_on(left.complete(&mut crate::upgrade::fixtures::inherited(saving)).unwrap());
    let all = |ring: &Ring| serde_json::to_string(&ring.lock().clone()).unwrap();
    assert_eq!(all(&other), all(&ring));
    ring.forget_ahead();
    let whole = ring.save(&mut Saving::new("it")).unwrap();
    assert_eq!(serde_json::to_string(&whole).unwrap(), all(&ring));
}
