use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::os::fd::OwnedFd;

use recluster_core::WorkerId;

use super::*;
use crate::process::console::Console;
use crate::process::stdio::set_nonblocking;
use crate::report::stream::Stream;
use crate::report::worker::Worker;
use crate::upgrade::Saving;
use crate::upgrade::fixtures::inherited;
use crate::upgrade::store::Taken;

fn source() -> Source {
    let worker = Worker { id: 1, slot: 0, generation: 1, pid: Some(7) };
    Source { id: WorkerId::from_number(1), worker, stream: Stream::Stderr }
}

fn forwarder(patience: Patience) -> (Forwarder, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (Forwarder::start_with(Console::plain(writer), patience, None, Sink::new(|_| {})).unwrap(), reader)
}

const LINE: &[u8] = &[b'\n'; 1024];

/// Leaves lines until there is no room; how many bytes found some.
fn fill(lane: &Lane) -> usize {
    std::iter::repeat_with(|| lane.leave(LINE, false)).take_while(|kept| *kept).count() * LINE.len()
}

#[test]
fn a_reader_that_does_not_read_costs_no_more_than_the_limit_for_each_worker() {
    let (forwarder, mut reader) = forwarder(Patience::None);
    let lanes = [forwarder.lane(source()), forwarder.lane(source())];
    let mut kept = 0;
    // The thread writes until the pipe is full but for a part of its last page. Then nothing but that makes room.
    while rustix::io::ioctl_fionread(&reader).unwrap() <= 15 * 4096 {
        kept += lanes.iter().map(fill).sum::<usize>();
    }
    kept += lanes.iter().map(fill).sum::<usize>();
    assert!((2 * MOST_WAITING..=2 * MOST_WAITING + (1 << 20)).contains(&kept), "{kept}");
    assert!((0..64).all(|_| lanes[0].leave(LINE, true)), "there is room for last words");
    kept += 64 * LINE.len();
    let more = std::iter::repeat_with(|| lanes[0].leave(LINE, true)).take_while(|kept| *kept).count();
    kept += more * LINE.len();
    assert!(kept <= MOST_OF_ALL + MOST_LAST_WORDS + (1 << 20), "as much as a bound allows: {kept}");
    assert_eq!(lanes[0].wait_until(), None, "nobody waits");
    drop((forwarder, lanes));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), kept, "the thread ends when all is written");
}

#[test]
fn many_workers_share_what_may_wait() {
    let (forwarder, _reader) = forwarder(Patience::None);
    let lanes: Vec<Lane> = (0..64).map(|_| forwarder.lane(source())).collect();
    assert!(fill(&lanes[0]) >= MOST_WAITING, "one may have much while the others have nothing");
    let kept = lanes.iter().map(fill).collect::<Vec<_>>();
    assert!(kept.iter().sum::<usize>() <= MOST_OF_ALL * 2, "{kept:?}");
    assert!(kept[1..].iter().all(|kept| *kept >= LONGEST_PIECE), "and each has some: {kept:?}");
}

#[test]
fn workers_that_have_ended_share_a_limit() {
    for patience in [Patience::None, Patience::UnlessStuck, Patience::Endless] {
        let (forwarder, _reader) = forwarder(patience);
        let living = forwarder.lane(source());
        for _ in 0..10 {
            fill(&forwarder.lane(source()));
        }
        let left_behind = forwarder.0.0.lock().waiting.left_behind;
        assert!((MOST_LEFT_BEHIND..=MOST_LEFT_BEHIND + MOST_WAITING).contains(&left_behind), "{left_behind}");
        assert!(!living.leave(LINE, true));
        assert_eq!(living.wait_until().is_some(), patience != Patience::None, "who may wait waits");
        assert!(forwarder.0.0.lock().lanes.len() < 7);
    }
}

/// A worker that ends again and again, each time with a few words, while nobody reads.
#[test]
fn workers_that_have_ended_are_not_without_number() {
    let (forwarder, reader) = forwarder(Patience::None);
    let kept = (0..10_000).filter(|_| forwarder.lane(source()).leave(LINE, true)).count();
    assert!(kept > 1_000, "{kept}");
    {
        let queues = forwarder.0.0.lock();
        assert!(queues.lanes.len() * ENDED <= MOST_LEFT_BEHIND + ENDED, "{}", queues.lanes.len());
        assert_eq!(queues.waiting.left_behind, queues.waiting.all);
    }
    let read = thread::spawn(move || read(reader).len());
    wait_until_written(&forwarder);
    assert_eq!(forwarder.0.0.lock().waiting, Waiting::default());
    let living = forwarder.lane(source());
    assert!(living.leave(LINE, false));
    drop((living, forwarder));
    assert_eq!(read.join().unwrap(), (kept + 1) * LINE.len());
}

fn wait_until_written(forwarder: &Forwarder) {
    while !forwarder.0.0.lock().lanes.is_empty() {
        thread::yield_now();
    }
}

#[test]
fn for_a_file_a_worker_waits_unless_it_is_stuck() {
    let (forwarder, _reader) = forwarder(Patience::UnlessStuck);
    let lane = forwarder.lane(source());
    assert_eq!(lane.wait_until(), None);
    fill(&lane);
    assert!(lane.wait_until().is_some_and(|until| until > Instant::now()));
    assert!(lane.leave(LINE, true), "the last words of a worker are kept");
    let long_ago = Instant::now().checked_sub(STUCK).unwrap();
    forwarder.0.0.lock().progress = long_ago;
    assert_eq!(lane.wait_until(), None);
}

#[tokio::test]
async fn one_that_waits_goes_on_when_there_is_room() {
    let (forwarder, mut reader) = forwarder(Patience::Endless);
    let lane = forwarder.lane(source());
    let kept = fill(&lane);
    forwarder.0.0.lock().progress = Instant::now().checked_sub(STUCK).unwrap();
    assert!(lane.wait_until().is_some(), "however long that takes");
    let read = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        read.len()
    });
    lane.room().await;
    assert!(lane.leave(LINE, false));
    forwarder.flush().await;
    drop((forwarder, lane));
    assert_eq!(read.join().unwrap(), kept + LINE.len());
}

#[test]
fn lines_of_several_workers_come_whole_and_in_order_though_the_pipe_does_not_block() {
    let (reader, writer) = io::pipe().unwrap();
    let owned = OwnedFd::from(writer);
    set_nonblocking(&owned).unwrap();
    let writer = io::PipeWriter::from(owned);
    let forwarder =
        Forwarder::start_with(Console::plain(writer), Patience::None, None, Sink::new(|_| {})).unwrap();
    let lanes = [forwarder.lane(source()), forwarder.lane(source()), forwarder.lane(source())];
    for number in 0..10_000 {
        for (worker, lane) in lanes.iter().enumerate() {
            assert!(lane.leave(format!("{worker} {number}\n").as_bytes(), false));
        }
    }
    drop((forwarder, lanes));
    let mut next = [0; 3];
    for line in BufReader::new(reader).lines().map(Result::unwrap) {
        let (worker, number) = line.split_once(' ').unwrap();
        let next = &mut next[worker.parse::<usize>().unwrap()];
        assert_eq!(number.parse(), Ok(*next));
        *next += 1;
    }
    assert_eq!(next, [10_000; 3]);
}

/// All that is written there until nobody can write there any more, which may be more than a pipe holds.
fn read(mut reader: PipeReader) -> Vec<u8> {
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    read
}

/// What this leaves, as another program is given it.
fn left(forwarder: &Forwarder) -> Left {
    let (mut saving, mut store) = (Saving::new("it"), Store::new("waiting"));
    let left = forwarder.save(&mut store).unwrap();
    store.pass(&mut saving).unwrap();
    let mut inheritance = inherited(saving);
    let taken = Taken::of("waiting", &mut inheritance).unwrap();
    let mut left: Left = serde_json::from_str(&serde_json::to_string(&left).unwrap()).unwrap();
    left.take(&taken).unwrap();
    left
}

/// What waits is written by whoever goes on with it, once and in its order.
#[test]
fn what_waits_goes_on_elsewhere() {
    let (before, reader) = forwarder(Patience::Endless);
    let lane = before.lane(source());
    assert!(before.rest(Instant::now() + STUCK));
    let odd = [[0xff; 1 << 10].as_slice(), b"\n"].concat();
    assert!(lane.leave(b"one\n", false) && lane.leave(&vec![b'\n'; PIECE], false) && lane.leave(&odd, false));
    let (after, writer) = io::pipe().unwrap();
    let to = Console::plain(writer);
    let goes_on =
        Forwarder::start_with(to, Patience::Endless, Some(left(&before)), Sink::new(|_| {})).unwrap();
    assert!(goes_on.rest(Instant::now() + STUCK));
    assert_eq!(format!("{:?}", left(&goes_on)), format!("{:?}", left(&before)));
    let adopted = goes_on.lane(source());
    assert!(adopted.leave(b"three\n", false));
    goes_on.go_on();
    drop((adopted, goes_on));
    let waited = [b"one\n".as_slice(), &vec![b'\n'; PIECE], &odd].concat();
    assert!(read(after) == [&*waited, b"three\n"].concat());
    // Where it has never gone on, it writes nothing.
    let (never, writer) = io::pipe().unwrap();
    let to = Console::plain(writer);
    drop(Forwarder::start_with(to, Patience::Endless, Some(left(&before)), Sink::new(|_| {})).unwrap());
    assert_eq!(io::read_to_string(never).unwrap(), "");
    // It is called off.
    before.go_on();
    drop((lane, before));
    assert!(read(reader) == waited);
}

#[test]
fn whoever_waits_for_a_reader_does_not_come_to_rest() {
    let (forwarder, reader) = forwarder(Patience::Endless);
    let lane = forwarder.lane(source());
    // More than the pipe holds: the thread is in the middle of it, or about to be.
    assert!(lane.leave(&vec![b'\n'; 1 << 20], false));
    while rustix::io::ioctl_fionread(&reader).unwrap() == 0 {}
    assert!(!forwarder.rest(Instant::now() + Duration::from_millis(10)));
    forwarder.go_on();
    drop((lane, forwarder));
    assert_eq!(io::read_to_string(reader).unwrap().len(), 1 << 20);
}
