//! What happens.

use super::kernel::{Act, Answer, FROM};
use libc::c_int;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub enum Part {
    Copy(usize),
    Ref(usize),
    Own(usize),
    Buf(usize, usize),
}

#[derive(Clone, Debug)]
pub enum Op {
    Append(usize),
    Ref(usize),
    Buf(usize, usize),
    /// Another shared buffer.
    NewBuf,
    Message(Vec<Part>),
    EndMessage,
    Notify,
    Send(Vec<Part>, Vec<Answer>, usize),
    Flush(Vec<Answer>, usize),
    /// The host sends by other means.
    Consume(usize),
    Reap,
    ReapOther,
    ReapPool,
    /// Of a socket's sends: which, how many, told together or in which order, and whether they were copied.
    Ack(usize, usize, usize, Told, bool),
    Distract(usize, u8),
    Discard,
    DiscardUnstarted,
    Fail(c_int),
    /// Perhaps for another connection.
    Reset(bool),
    Free,
    /// The host closes its descriptor.
    Close,
    /// The host goes on with another connection, although it did not reset the queue.
    Switch,
    /// To the other queue.
    Splice(Option<usize>),
    Cork,
    Uncork,
    Rollback,
    /// The next step, in which a release callback does this to one of the queues.
    InCallback(Act, bool),
}

#[derive(Clone, Copy, Debug)]
pub enum Told {
    Together,
    /// With earlier ones, which were told before.
    Again,
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub threadsafe: bool,
    pub messages: [bool; 2],
    /// The caps of the queues; 0: none.
    pub max: [u64; 2],
    /// The pool is freed while the kernel still reads.
    pub frees_first: bool,
}

pub const BUFFER: usize = 400;

fn len() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![1..FROM, FROM..400_usize]
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    (0..BUFFER, len()).prop_map(|(at, len)| (at, len.min(BUFFER - at)))
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        1 => len().prop_map(Part::Copy),
        3 => len().prop_map(Part::Ref),
        1 => len().prop_map(Part::Own),
        1 => range().prop_map(|(at, len)| Part::Buf(at, len)),
    ];
    vec(part, 1..4)
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let errno = prop_oneof![
        20 => Just(libc::EAGAIN),
        4 => Just(libc::EINTR),
        3 => Just(libc::ENOBUFS),
        1 => Just(libc::EOPNOTSUPP),
        1 => Just(libc::ECONNRESET),
    ];
    let answer = prop_oneof![
        4 => Just(Answer::All),
        6 => (1..500_usize).prop_map(Answer::Some),
        2 => errno.prop_map(Answer::No),
    ];
    vec(answer, 0..4)
}

fn budget() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1..600_usize]
}

pub fn op() -> impl Strategy<Value = Op> {
    let act = prop::sample::select(vec![Act::Discard, Act::Reset, Act::Free]);
    let told =
        prop::sample::select(vec![Told::Together, Told::Again, Told::Ascending, Told::Descending]);
    prop_oneof![
        4 => len().prop_map(Op::Append),
        10 => len().prop_map(Op::Ref),
        4 => range().prop_map(|(at, len)| Op::Buf(at, len)),
        1 => Just(Op::NewBuf),
        8 => parts().prop_map(Op::Message),
        1 => Just(Op::EndMessage),
        3 => Just(Op::Notify),
        5 => (parts(), answers(), budget()).prop_map(|(parts, answers, budget)| Op::Send(parts, answers, budget)),
        16 => (answers(), budget()).prop_map(|(answers, budget)| Op::Flush(answers, budget)),
        1 => (1..400_usize).prop_map(Op::Consume),
        5 => Just(Op::Reap),
        1 => Just(Op::ReapOther),
        2 => Just(Op::ReapPool),
        10 => (any::<usize>(), any::<usize>(), 1..5_usize, told, prop::bool::weighted(0.2))
            .prop_map(|(socket, first, count, told, copied)| Op::Ack(socket, first, count, told, copied)),
        1 => (any::<usize>(), 1..5_u8).prop_map(|(socket, kind)| Op::Distract(socket, kind)),
        2 => Just(Op::Discard),
        2 => Just(Op::DiscardUnstarted),
        1 => Just(Op::Fail(-libc::EIO)),
        3 => any::<bool>().prop_map(Op::Reset),
        1 => Just(Op::Free),
        1 => Just(Op::Close),
        1 => Just(Op::Switch),
        6 => prop::option::of(1..500_usize).prop_map(Op::Splice),
        2 => Just(Op::Cork),
        2 => Just(Op::Uncork),
        1 => Just(Op::Rollback),
        4 => (act, any::<bool>()).prop_map(|(act, second)| Op::InCallback(act, second)),
    ]
}

pub fn setting() -> impl Strategy<Value = Setting> {
    let max = || prop_oneof![3 => Just(0), 1 => 300..1000_u64];
    (any::<bool>(), any::<[bool; 2]>(), [max(), max()], any::<bool>()).prop_map(
        |(threadsafe, messages, max, frees_first)| Setting {
            threadsafe,
            messages,
            max,
            frees_first,
        },
    )
}
