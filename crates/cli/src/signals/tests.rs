//! What each signal means, by itself and among others.

use rustix::process::{getpid, kill_process};
use tokio::sync::Mutex as Turn;

use super::*;

/// Signals are the whole process's, tests are threads of it.
static PROCESS: Turn<()> = Turn::const_new(());

async fn signal(to: &mut Signals, signal: Signal) -> Heard {
    kill_process(getpid(), signal).unwrap();
    next(to).await
}

/// Other tests have children, which end.
async fn next(of: &mut Signals) -> Heard {
    loop {
        let heard = of.next().await;
        if heard != Heard::ChildEnded {
            return heard;
        }
    }
}

#[tokio::test]
async fn each_signal_is_heard_as_what_it_means() {
    let _alone = PROCESS.lock().await;
    for (number, name, wish) in MEANINGS {
        let mut signals = Signals::install(None).unwrap();
        assert_eq!(signal(&mut signals, number).await, Heard::Signal { name, wish });
    }
}

fn info(signal: Signal, code: i32) -> siginfo {
    let mut apart = SigSet::empty();
    apart.add(signal::SIGTTOU);
    apart.thread_block().unwrap();
    let fd = SignalFd::with_flags(&apart, SfdFlags::SFD_CLOEXEC).unwrap();
    // It is sent to this thread alone.
    signal::raise(signal::SIGTTOU).unwrap();
    let mut info = fd.read_signal().unwrap().unwrap();
    (info.ssi_signo, info.ssi_code) = (signal.as_raw().cast_unsigned(), code);
    info
}

/// `SI_KERNEL` and `SI_USER`.
#[tokio::test]
async fn what_the_kernel_sends_is_no_wish_and_a_terminal_closes_once() {
    const KERNEL: i32 = 0x80;
    const USER: i32 = 0;
    let _alone = PROCESS.lock().await;
    let reload = Some(Heard::Signal { name: "SIGHUP", wish: Wish::Reload });
    for (terminal, closed, of_shell) in [
        (Terminal::Open, Some(Heard::HungUp), Some(Heard::HungUp)),
        (Terminal::DoesNotMatter, None, None),
        (Terminal::Missing, None, reload),
    ] {
        let mut signals = Signals { terminal, ..Signals::install(None).unwrap() };
        for signal in [Signal::TTIN, Signal::TTOU] {
            assert_eq!(signals.judge(&info(signal, KERNEL), false), None);
        }
        assert_eq!(signals.judge(&info(Signal::HUP, USER), false), reload);
        assert_eq!(signals.judge(&info(Signal::HUP, KERNEL), false), closed);
        assert_eq!(signals.judge(&info(Signal::HUP, KERNEL), false), None);
        let mut signals = Signals { terminal, ..Signals::install(None).unwrap() };
        assert_eq!(signals.judge(&info(Signal::HUP, USER), true), of_shell, "{terminal:?}");
    }
}

/// Nobody hears of any of them until all have come.
#[tokio::test]
async fn no_signal_drives_one_of_another_kind_out() {
    let _alone = PROCESS.lock().await;
    let mut signals = Signals::install(None).unwrap();
    for _ in 0..1000 {
        kill_process(getpid(), Signal::USR1).unwrap();
    }
    kill_process(getpid(), Signal::TERM).unwrap();
    while next(&mut signals).await != (Heard::Signal { name: "SIGTERM", wish: Wish::Stop }) {}
}

#[tokio::test]
async fn signals_that_are_held_wait_and_one_that_was_taken_is_not_held() {
    let _alone = PROCESS.lock().await;
    let mut signals = Signals::install(None).unwrap();
    let gate = signals.gate();
    gate.hold().unwrap();
    let reader = gate.lock().tell.clone();
    gate.release();
    // Nobody has heard of it: that is what a loop which has not had its turn looks like.
    reader.send(Told::Signal(Box::new(info(Signal::USR2, 0)))).await.unwrap();
    assert!(gate.hold().unwrap_err().contains("obeyed first"));
    assert!(matches!(next(&mut signals).await, Heard::Signal { name: "SIGUSR2", .. }));
    gate.hold().unwrap();
}

#[tokio::test]
async fn two_signals_of_one_moment_are_one_wish_and_a_later_one_insists() {
    let _alone = PROCESS.lock().await;
    let mut signals = Signals::install(None).unwrap();
    let heard = |name, wish| Heard::Signal { name, wish };
    assert_eq!(signal(&mut signals, Signal::TERM).await, heard("SIGTERM", Wish::Stop));
    assert_eq!(signal(&mut signals, Signal::INT).await, heard("SIGINT", Wish::Repeated));
    assert_eq!(next(&mut signals).await, Heard::StopSettled);
    assert_eq!(signal(&mut signals, Signal::INT).await, heard("SIGINT", Wish::Terminate));
}

/// The clock has run out by the time at which the second is looked for, but it came before.
#[tokio::test]
async fn a_loop_that_was_held_up_takes_no_signal_for_a_later_one() {
    let _alone = PROCESS.lock().await;
    let mut signals = Signals::install(None).unwrap();
    signal(&mut signals, Signal::TERM).await;
    tokio::select! {
        biased;
        heard = next(&mut signals) => panic!("{heard:?}"),
        () = std::future::ready(()) => {}
    }
    kill_process(getpid(), Signal::TERM).unwrap();
    let due = signals.wishes.deadline().unwrap();
    while Instant::now() < due {
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
    let repeated = Heard::Signal { name: "SIGTERM", wish: Wish::Repeated };
    assert_eq!(next(&mut signals).await, repeated);
    assert_eq!(next(&mut signals).await, Heard::StopSettled);
}
