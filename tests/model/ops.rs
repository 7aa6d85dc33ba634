//! What a host may do, and what the world does meanwhile.

use super::script::Answer;
use proptest::prelude::*;

/// What an owner does when it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reaction {
    Nothing,
    Append(usize),
    Discard,
    Consume(usize),
    Free,
}

#[derive(Clone, Debug)]
pub enum Op {
    Append(usize),
    Appendv(Vec<usize>),
    Ref(usize, Reaction),
    Buf(usize, usize),
    File(usize, Reaction),
    Notify(Reaction),
    Reserve(usize),
    Commit(usize),
    Cork,
    Uncork,
    Rollback,
    Splice,
    Flush {
        budget: usize,
        answers: Vec<Answer>,
    },
    Consume(usize),
    Discard,
    Close,
    CloseWithin(u64),
    SetWatermarks(u64, u64, u64),
    SetRate(u64, u64),
    SetMinRate(u64, u64),
    /// Time passes, or the clock jumps back.
    Pass(i64),
}

impl Op {
    /// The same with lengths that are multiples of `grain`, so that sums meet the watermarks exactly.
    pub fn rounded(self, grain: usize) -> Op {
        let round = |len: usize| len.next_multiple_of(grain);
        match self {
            Op::Append(len) => Op::Append(round(len)),
            Op::Appendv(lengths) => Op::Appendv(lengths.into_iter().map(round).collect()),
            Op::Ref(len, then) => Op::Ref(round(len), then),
            Op::Buf(offset, len) => Op::Buf(offset, round(len)),
            Op::File(len, then) => Op::File(round(len), then),
            Op::Reserve(len) => Op::Reserve(round(len)),
            Op::Commit(len) => Op::Commit(round(len)),
            Op::Flush { budget, answers } => Op::Flush { budget: round(budget), answers },
            Op::Consume(len) => Op::Consume(round(len)),
            op => op,
        }
    }
}

/// What all queues and pools of a run are made with.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub chunk_bytes: u64,
    pub keep_bytes: u64,
    /// What the pools may hold beyond a chunk and the shared payload, if there is a budget.
    pub budget: Option<u64>,
    /// Both queues have the first pool.
    pub one_pool: bool,
    pub threadsafe: bool,
    /// Time is the run's. The system's clock is on the short ways; then nothing is done or checked that
    /// depends on the time.
    pub simulated: bool,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..40_usize, 3 => 90..300_usize, 1 => 0..7000_usize]
}

fn reaction() -> impl Strategy<Value = Reaction> {
    prop_oneof![
        40 => Just(Reaction::Nothing),
        6 => (0..300_usize).prop_map(Reaction::Append),
        2 => Just(Reaction::Discard),
        2 => (0..300_usize).prop_map(Reaction::Consume),
        1 => Just(Reaction::Free),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::All),
        6 => (0..600_usize).prop_map(Answer::Some),
        2 => Just(Answer::No(libc::EAGAIN)),
        2 => Just(Answer::No(libc::EINTR)),
        1 => Just(Answer::No(libc::ENOBUFS)),
    ]
}

const SECOND: u64 = 1_000_000_000;

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        1 => Just(1),
        6 => 50..2000_u64,
        2 => 1000..1_000_000_u64,
        1 => SECOND / 2..4 * SECOND,
        1 => Just(u64::MAX),
    ]
}

fn burst() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => Just(1), 4 => 1..1000_u64, 1 => Just(u64::MAX)]
}

/// Some nanoseconds, or some seconds, or more than there will ever be.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        2 => 1..1000_u64,
        4 => 1..SECOND,
        4 => SECOND..20 * SECOND,
        1 => Just(u64::MAX),
    ]
}

fn step() -> impl Strategy<Value = i64> {
    let forward = prop_oneof![
        2 => 1..10_u64,
        4 => 1..SECOND / 50,
        6 => 1..4 * SECOND,
        1 => 1..100_000 * SECOND,
    ];
    prop_oneof![
        8 => forward.prop_map(|by| by as i64),
        1 => prop_oneof![1..10_i64, 1..5 * SECOND as i64].prop_map(|by: i64| -by),
    ]
}

pub fn op() -> impl Strategy<Value = Op> {
    let flush = |answers| {
        (prop_oneof![Just(0), 1..2000_usize], prop::collection::vec(answers, 0..4))
            .prop_map(|(budget, answers)| Op::Flush { budget, answers })
    };
    prop_oneof![
        12 => length().prop_map(Op::Append),
        3 => prop::collection::vec(length(), 0..5).prop_map(Op::Appendv),
        10 => (length(), reaction()).prop_map(|(len, then)| Op::Ref(len, then)),
        4 => (0..600_usize, 0..300_usize).prop_map(|(offset, len)| Op::Buf(offset, len)),
        3 => (length(), reaction()).prop_map(|(len, then)| Op::File(len, then)),
        3 => reaction().prop_map(Op::Notify),
        3 => length().prop_map(Op::Reserve),
        4 => length().prop_map(Op::Commit),
        3 => Just(Op::Cork),
        2 => Just(Op::Uncork),
        2 => Just(Op::Rollback),
        3 => Just(Op::Splice),
        12 => flush(answer().boxed()),
        4 => length().prop_map(Op::Consume),
        1 => Just(Op::Discard),
        1 => (1..300_u64, 300..600_u64, 600..9000_u64)
            .prop_map(|(low, high, max)| Op::SetWatermarks(low, high, max)),
        1 => (1..6_u64).prop_map(|mark| Op::SetWatermarks(mark * 100, mark * 100, mark * 100)),
        1 => prop_oneof![
            4 => Just(Op::Close),
            1 => flush(Just(Answer::No(libc::ECONNRESET)).boxed()),
        ],
        10 => step().prop_map(Op::Pass),
        1 => time().prop_map(Op::CloseWithin),
        3 => (rate(), burst()).prop_map(|(rate, burst)| Op::SetRate(rate, burst)),
        2 => (rate(), time()).prop_map(|(rate, window)| Op::SetMinRate(rate, window)),
    ]
}

pub fn setting() -> impl Strategy<Value = Setting> {
    let memory = (
        prop_oneof![Just(256_u64), Just(1000), Just(16384)],
        prop_oneof![Just(1_u64), Just(2048), Just(100_000)],
        prop::option::weighted(0.4, 0..12_000_u64),
    );
    let kind = (prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.8));
    (memory, kind).prop_map(|(memory, (one_pool, threadsafe, simulated))| {
        let (chunk_bytes, keep_bytes, budget) = memory;
        Setting { chunk_bytes, keep_bytes, budget, one_pool, threadsafe, simulated }
    })
}
