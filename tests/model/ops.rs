//! What a host may do, and what the world does meanwhile.

use super::script::Answer;
use proptest::prelude::*;
use sendq::policy::RESERVE_BYTES;

/// Borrowed pieces below this are copied.
pub const COPY_BELOW: usize = 100;
/// What the shared payload of a run has.
pub const SHARED_BYTES: usize = 600;

/// What an owner does when it is released, or a writer while it is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reaction {
    Nothing,
    Append(usize),
    Discard,
    Consume(usize),
    /// Into a sink that takes all.
    Flush,
    Cork,
    Uncork,
    Rollback,
    Close,
    Free,
    /// A piece of this length, borrowed if it is long enough.
    Ref(usize),
    /// A message of some bytes to copy and a piece of this length.
    Message(usize),
    EndMessage,
    DiscardUnstarted,
    /// So many bytes into this hole of those that were made.
    Fill(usize, usize),
    Reset,
    Fail,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PartOf {
    Copy(usize),
    Ref(usize),
    Own(usize, Reaction),
    Buf(usize, usize),
    File(usize),
}

/// A message: its parts, and who owns it, if anybody does.
#[derive(Clone, Debug)]
pub struct Letter {
    pub parts: Vec<PartOf>,
    pub owner: Option<Reaction>,
}

/// What the old path sent, beside what waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claim {
    /// So much of it.
    Right(usize),
    /// So much of it, but for the byte at this place.
    Wrong(usize, usize),
    /// All of it, and so many more.
    TooMany(usize),
}

#[derive(Clone, Debug)]
pub enum Op {
    Append(usize),
    Appendv(Vec<usize>),
    Ref(usize, Reaction),
    Buf(usize, usize),
    File(usize, Reaction),
    /// So many bytes of a file that has only the first of these.
    ShortFile(usize, usize),
    Notify(Reaction),
    /// So many, of which nobody reacts.
    NotifyMany(usize),
    Reserve(usize),
    Commit(usize),
    Cork,
    Uncork,
    Rollback,
    /// At most so many bytes.
    Splice(usize),
    Message(Letter),
    SendMessage {
        letter: Letter,
        budget: usize,
        answers: Vec<Answer>,
    },
    EndMessage,
    DiscardUnstarted,
    Hole(usize),
    /// So many bytes into this hole of those that were made.
    Fill(usize, usize),
    Reset,
    Fail(i32),
    Flush {
        budget: usize,
        answers: Vec<Answer>,
    },
    FlushWith {
        budget: usize,
        answers: Vec<Answer>,
        /// What the writer does in this of its calls.
        at: usize,
        then: Reaction,
    },
    Send {
        lengths: Vec<usize>,
        answers: Vec<Answer>,
    },
    Verify(Claim),
    Consume(usize),
    Discard,
    Close,
    CloseWithin(u64),
    SetWatermarks(u64, u64, u64),
    SetRate(u64, u64),
    SetMinRate(u64, u64),
    Schedule,
    /// So many calls of sendq_pool_next, of which nothing is flushed.
    Next(usize),
    /// Time passes, or the clock jumps back.
    Pass(i64),
}

impl Op {
    /// The same with lengths `scale` times as large that are multiples of `grain`, so that sums meet the
    /// watermarks exactly.
    pub fn sized(self, scale: usize, grain: usize) -> Op {
        let round = |len: usize| (len * scale).next_multiple_of(grain);
        match self {
            Op::Append(len) => Op::Append(round(len)),
            Op::Appendv(lengths) => Op::Appendv(lengths.into_iter().map(round).collect()),
            Op::Ref(len, then) => Op::Ref(round(len), then),
            Op::Buf(offset, len) => Op::Buf(offset, round(len)),
            Op::File(len, then) => Op::File(round(len), then),
            Op::Reserve(len) => Op::Reserve(round(len)),
            Op::Commit(len) => Op::Commit(round(len)),
            Op::Flush { budget, answers } => Op::Flush { budget: round(budget), answers },
            Op::FlushWith { budget, answers, at, then } => {
                Op::FlushWith { budget: round(budget), answers, at, then }
            }
            Op::Send { lengths, answers } => {
                Op::Send { lengths: lengths.into_iter().map(round).collect(), answers }
            }
            Op::Consume(len) => Op::Consume(round(len)),
            Op::Splice(most) if most < usize::MAX => Op::Splice(round(most)),
            Op::Message(letter) => Op::Message(letter.sized(round)),
            Op::SendMessage { letter, budget, answers } => {
                Op::SendMessage { letter: letter.sized(round), budget: round(budget), answers }
            }
            op => op,
        }
    }
}

impl Letter {
    fn sized(self, round: impl Fn(usize) -> usize) -> Letter {
        let part = |part| match part {
            PartOf::Copy(len) => PartOf::Copy(round(len)),
            PartOf::Ref(len) => PartOf::Ref(round(len)),
            PartOf::Own(len, then) => PartOf::Own(round(len), then),
            PartOf::File(len) => PartOf::File(round(len)),
            part => part,
        };
        Letter { parts: self.parts.into_iter().map(part).collect(), ..self }
    }
}

impl Op {
    /// It asks no clock, unless an owner does.
    pub fn needs_no_clock(&self) -> bool {
        let appends = matches!(
            self,
            Op::Append(_) | Op::Appendv(_) | Op::Ref(..) | Op::Buf(..) | Op::File(..)
        );
        appends
            || matches!(self, Op::Message(_) | Op::EndMessage | Op::Hole(_) | Op::Fill(..))
            || matches!(
                self,
                Op::Notify(_) | Op::Reserve(_) | Op::Commit(_) | Op::Cork | Op::Uncork
            )
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
    /// Driven without the C ABI.
    pub core: bool,
    /// Not in the core.
    pub threadsafe: bool,
    /// Blocks are allocated by the host. Not in the core.
    pub allocates: bool,
    /// Owners call the other queue.
    pub crosses: bool,
    /// Time is the run's. Otherwise nothing is done or checked that depends on it.
    pub simulated: bool,
    /// Which queues are ready is tracked from the beginning, and not from the first time somebody asks.
    pub tracks: bool,
    /// Watermarks and lengths are so many times as large: for records that are full.
    pub scale: usize,
    /// Lengths are multiples of this.
    pub grain: usize,
    /// Parts of the shared payload below this are copied.
    pub share_below: usize,
    /// What the budget does not refuse to a queue; 0: the default.
    pub reserve: u64,
    /// If messages are counted, how many may be queued (0: any number), for each queue.
    pub max_messages: [Option<u64>; 2],
}

impl Setting {
    /// What a pool may hold; 0: all there is.
    pub fn max_bytes(&self) -> u64 {
        self.budget.map_or(0, |more| self.chunk_bytes + SHARED_BYTES as u64 + more)
    }

    /// What the budget does not refuse to a queue.
    pub fn reserve_bytes(&self) -> u64 {
        if self.reserve == 0 { RESERVE_BYTES } else { self.reserve }
    }

    /// Which pool the queue `q` has.
    pub fn pool_of(&self, q: usize) -> usize {
        if self.one_pool { 0 } else { q }
    }

    pub fn marks(&self) -> (u64, u64, u64) {
        let scale = self.scale as u64;
        (1000 * scale, 3000 * scale, 6000 * scale)
    }
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
        2 => Just(Reaction::Flush),
        1 => Just(Reaction::Cork),
        1 => Just(Reaction::Uncork),
        1 => Just(Reaction::Rollback),
        1 => Just(Reaction::Close),
        1 => Just(Reaction::Free),
        3 => length().prop_map(Reaction::Ref),
        4 => length().prop_map(Reaction::Message),
        1 => Just(Reaction::EndMessage),
        2 => Just(Reaction::DiscardUnstarted),
        3 => (0..9_usize, 0..40_usize).prop_map(|(which, len)| Reaction::Fill(which, len)),
        1 => Just(Reaction::Reset),
        1 => Just(Reaction::Fail),
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

/// Of which the last one may end the connection.
fn answers_of_a_socket() -> impl Strategy<Value = Vec<Answer>> {
    prop_oneof![
        12 => prop::collection::vec(answer(), 0..4),
        1 => (any::<bool>()).prop_map(|first| {
            let end = Answer::No(libc::ECONNRESET);
            if first { vec![Answer::No(libc::EINTR), end] } else { vec![Answer::Some(50), end] }
        }),
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

fn writer_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        12 => answer(),
        3 => Just(Answer::No(4096)), // WANT_READ
    ]
}

fn flush_with() -> impl Strategy<Value = Op> {
    let answers = prop_oneof![
        15 => prop::collection::vec(writer_answer(), 0..5),
        1 => Just(vec![Answer::Some(50), Answer::No(libc::EPROTO)]),
    ];
    (prop_oneof![2 => Just(0), 1 => 1..2000_usize], answers, 0..3_usize, reaction())
        .prop_map(|(budget, answers, at, then)| Op::FlushWith { budget, answers, at, then })
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        4 => length().prop_map(Claim::Right),
        1 => Just(Claim::Right(usize::MAX)),
        2 => (length(), any::<usize>()).prop_map(|(len, at)| Claim::Wrong(len, at)),
        1 => (0..300_usize).prop_map(Claim::TooMany),
    ]
}

fn letter() -> impl Strategy<Value = Letter> {
    let part = prop_oneof![
        4 => length().prop_map(PartOf::Copy),
        4 => length().prop_map(PartOf::Ref),
        2 => (length(), reaction()).prop_map(|(len, then)| PartOf::Own(len, then)),
        2 => (0..600_usize, 0..300_usize).prop_map(|(offset, len)| PartOf::Buf(offset, len)),
        1 => length().prop_map(PartOf::File),
    ];
    let owner = prop::option::weighted(0.8, reaction());
    (prop::collection::vec(part, 0..5), owner).prop_map(|(parts, owner)| Letter { parts, owner })
}

fn message_op() -> impl Strategy<Value = Op> {
    let budget = prop_oneof![2 => Just(0), 1 => 1..2000_usize];
    prop_oneof![
        6 => letter().prop_map(Op::Message),
        6 => (letter(), budget, answers_of_a_socket()).prop_map(|(letter, budget, answers)| {
            Op::SendMessage { letter, budget, answers }
        }),
        4 => Just(Op::EndMessage),
        3 => Just(Op::DiscardUnstarted),
        5 => prop_oneof![4 => 0..40_usize, 1 => length()].prop_map(Op::Hole),
        6 => (0..9_usize, 0..40_usize).prop_map(|(which, len)| Op::Fill(which, len)),
        1 => Just(Op::Reset),
        1 => Just(Op::Fail(-libc::EIO)),
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
        1 => (0..300_usize, 1..300_usize).prop_map(|(has, more)| Op::ShortFile(has, has + more)),
        4 => reaction().prop_map(Op::Notify),
        1 => (0..130_usize).prop_map(Op::NotifyMany),
        3 => length().prop_map(Op::Reserve),
        4 => length().prop_map(Op::Commit),
        3 => Just(Op::Cork),
        2 => Just(Op::Uncork),
        2 => Just(Op::Rollback),
        3 => prop_oneof![Just(usize::MAX), length()].prop_map(Op::Splice),
        25 => message_op(),
        10 => flush(answer().boxed()),
        10 => flush_with(),
        5 => (prop::collection::vec(length(), 0..4), answers_of_a_socket())
            .prop_map(|(lengths, answers)| Op::Send { lengths, answers }),
        3 => claim().prop_map(Op::Verify),
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
        2 => Just(Op::Schedule),
        12 => (1..4_usize).prop_map(Op::Next),
    ]
}

pub fn setting() -> impl Strategy<Value = Setting> {
    let memory = (
        prop_oneof![Just(256_u64), Just(1000), Just(4096), Just(16384)],
        prop_oneof![Just(1_u64), Just(2048), Just(100_000)],
        prop::option::weighted(0.4, 0..12_000_u64),
    );
    let kind = (prop::bool::weighted(0.3), prop::bool::weighted(0.8), 0..4_u8, prop::bool::ANY);
    let host = (prop::bool::ANY, prop::bool::weighted(0.2));
    let sizes = (prop_oneof![6 => Just(1_usize), 1 => Just(20)], prop_oneof![Just(1), Just(100)]);
    let below = prop_oneof![Just(1_usize), Just(120)];
    let reserve = prop_oneof![3 => Just(1_u64), 2 => Just(0), 2 => Just(1500), 1 => Just(20_000)];
    let counts = || prop::option::weighted(0.7, prop_oneof![2 => Just(0_u64), 1 => 1..5_u64]);
    let max_messages = [counts(), counts()];
    let all = (memory, kind, host, sizes, below, reserve, max_messages);
    all.prop_map(|(memory, kind, host, sizes, share_below, reserve, max_messages)| {
        let (chunk_bytes, keep_bytes, budget) = memory;
        let (one_pool, simulated, driver, tracks) = kind;
        // On Windows nothing stands in for the system calls.
        let core = driver < 2 || cfg!(windows);
        let threadsafe = driver == 2 && !core;
        let ((allocates, crosses), (scale, grain)) = (host, sizes);
        let budget = budget.map(|more| more * scale as u64);
        Setting {
            chunk_bytes,
            keep_bytes,
            budget,
            one_pool,
            core,
            threadsafe,
            allocates,
            crosses,
            simulated,
            tracks,
            scale,
            grain,
            share_below,
            reserve,
            max_messages,
        }
    })
}
