//! SHA-1 (FIPS 180-4, section 6.1) of two and more streams at once.
//!
//! Each round of SHA-1 waits for the one before it, so a processor with SHA-1 instructions spends most of a single stream waiting.
//! The rounds of other streams fit into those gaps: two together take hardly longer than one, four not twice as long. Here they
//! are interleaved with the instructions of x86-64 (SHA extensions) and AArch64 (FEAT_SHA1), if the processor has them; where it
//! has not, and for what only one of the streams has, the `sha1` crate does the work.
//!
//! Whatever the way, the hashes are those of FIPS 180-4. Nothing here allocates.
#![allow(
    unsafe_code,
    reason = "loads of vectors, and calls of code for instructions that were looked for"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "one index for what several streams have at the same place"
)]

use sha1::block_api::compress;

/// Bytes that the compression function takes at once.
const BLOCK: usize = 64;
/// Where the length of the message stands in its last block.
const LENGTH: usize = BLOCK - 8;

/// The five words between two blocks.
type State = [u32; 5];
type Block = [u8; BLOCK];

/// FIPS 180-4, section 5.3.1.
const INITIAL: State = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// SHA-1 of each of a few messages.
pub fn sha1_of_each<const N: usize>(messages: [&[u8]; N]) -> [[u8; 20]; N] {
    let mut streams = Streams::new();
    streams.update(messages);
    streams.finish()
}

/// Messages that come in chunks; it is fast where all come in chunks of like length. On the processors measured, four are
/// faster than two, and more than four hardly faster than four.
#[derive(Clone, Debug)]
pub struct Streams<const N: usize>([Stream; N]);

impl<const N: usize> Streams<N> {
    /// Empty messages.
    #[allow(
        clippy::new_without_default,
        reason = "an empty message is no default of anything"
    )]
    pub fn new() -> Self {
        Self([const { Stream::new() }; N])
    }

    /// Appends a chunk, of any length, to each message.
    pub fn update(&mut self, mut chunks: [&[u8]; N]) {
        for (stream, chunk) in self.0.iter_mut().zip(&mut chunks) {
            *chunk = stream.begin(chunk);
        }
        let parts = chunks.map(|chunk| chunk.as_chunks());
        let blocks = parts.map(|(blocks, _)| blocks);
        let common = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
        let states = self.0.each_mut().map(|stream| &mut stream.state);
        compress_many(states, blocks.map(|blocks| &blocks[..common]));
        self.update_by_two(blocks.map(|blocks| &blocks[common..]));
        for (stream, (_, rest)) in self.0.iter_mut().zip(parts) {
            stream.keep(rest);
        }
    }

    /// Takes blocks that not all messages have: two messages at a time, and the last alone.
    fn update_by_two(&mut self, blocks: [&[Block]; N]) {
        let mut waiting: Option<(&mut State, &[Block])> = None;
        for (stream, blocks) in self.0.iter_mut().zip(blocks) {
            let state = &mut stream.state;
            let Some((other, others)) = waiting.take() else {
                waiting = Some((state, blocks));
                continue;
            };
            let common = blocks.len().min(others.len());
            compress_many(
                [&mut *state, &mut *other],
                [&blocks[..common], &others[..common]],
            );
            waiting = if blocks.len() > common {
                Some((state, &blocks[common..]))
            } else {
                Some((other, &others[common..]))
            };
        }
        if let Some((state, blocks)) = waiting
            && !blocks.is_empty()
        {
            compress(state, blocks);
        }
    }

    /// The hash of each message.
    pub fn finish(self) -> [[u8; 20]; N] {
        self.0.map(Stream::finish)
    }
}

/// One message.
#[derive(Clone, Debug)]
struct Stream {
    state: State,
    /// Bytes so far, whole blocks and others.
    len: u64,
    /// Bytes that are no whole block yet: the first `len % 64`.
    tail: Block,
}

impl Stream {
    const fn new() -> Self {
        Self {
            state: INITIAL,
            len: 0,
            tail: [0; BLOCK],
        }
    }

    /// Completes the block that was begun, and gives what is left of the chunk: nothing if it was not completed.
    fn begin<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let held = (self.len % BLOCK as u64) as usize;
        self.len += chunk.len() as u64;
        if held == 0 {
            return chunk;
        }
        let (now, later) = chunk.split_at(chunk.len().min(BLOCK - held));
        self.tail[held..held + now.len()].copy_from_slice(now);
        if held + now.len() == BLOCK {
            compress(&mut self.state, &[self.tail]);
        }
        later
    }

    /// Keeps the end of a chunk, which is no whole block. What was kept before is part of one now, or nothing is added to it.
    fn keep(&mut self, rest: &[u8]) {
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// Pads the message (section 5.1.1) and gives its hash.
    fn finish(mut self) -> [u8; 20] {
        let held = (self.len % BLOCK as u64) as usize;
        self.tail[held] = 0x80;
        self.tail[held + 1..].fill(0);
        if held >= LENGTH {
            compress(&mut self.state, &[self.tail]);
            self.tail.fill(0);
        }
        let bits = self.len.wrapping_mul(8);
        self.tail[LENGTH..].copy_from_slice(&bits.to_be_bytes());
        compress(&mut self.state, &[self.tail]);
        let mut hash = [0; 20];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

/// Runs the compression function over as many blocks of each, one state after the other or all at once.
fn compress_many<const N: usize>(states: [&mut State; N], blocks: [&[Block]; N]) {
    debug_assert!(blocks.iter().all(|some| some.len() == blocks[0].len()));
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if native::is_available() {
        // SAFETY: the processor has the instructions that it is compiled for.
        return unsafe { native::compress_many(states, blocks) };
    }
    for (state, blocks) in states.into_iter().zip(blocks) {
        compress(state, blocks);
    }
}

/// Four rounds of every lane for each `group` (which counts the rounds of a block by four), with function and constant number
/// `f`. Spelled out, so that every vector of the schedule stays in its register: of loops, compilers unroll some.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! rounds {
    ($lanes:ident, $($f:literal: $($group:literal)*),*) => {
        $($(
            for lane in &mut $lanes {
                lane.four_rounds::<$f, $group>();
            }
        )*)*
    };
}

/// With the SHA extensions: Intel, "New Instructions Supporting the Secure Hash Algorithm on Intel Architecture Processors", 2013.
#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi8, _mm_set_epi32,
        _mm_setzero_si128, _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32,
        _mm_sha1rnds4_epu32, _mm_shuffle_epi8, _mm_xor_si128,
    };

    use super::{Block, State};

    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
    }

    /// One stream in registers. The first word of each vector is its highest.
    #[derive(Clone, Copy)]
    struct Lane {
        abcd: __m128i,
        /// What `abcd` was four rounds ago: its first word, rotated, is the E of now.
        before: __m128i,
        /// The last 16 words of the message schedule, four to a vector, as a ring.
        schedule: [__m128i; 4],
    }

    /// Over as many blocks of each as the shortest list has.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn compress_many<const N: usize>(states: [&mut State; N], blocks: [&[Block]; N]) {
        let mut abcd = states.each_ref().map(|state| load_abcd(state));
        let mut e = states.each_ref().map(|state| load_e(state));
        let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
        for at in 0..count {
            // No closure here and below: its code may stay apart from these instructions, and then is called for each block.
            let mut lanes = [Lane::begin(abcd[0], &blocks[0][at]); N];
            for n in 1..N {
                lanes[n] = Lane::begin(abcd[n], &blocks[n][at]);
            }
            for n in 0..N {
                lanes[n].first_rounds(e[n]);
            }
            rounds!(lanes, 0: 1 2 3 4, 1: 5 6 7 8 9, 2: 10 11 12 13 14, 3: 15 16 17 18 19);
            for n in 0..N {
                e[n] = _mm_sha1nexte_epu32(lanes[n].before, e[n]);
                abcd[n] = _mm_add_epi32(lanes[n].abcd, abcd[n]);
            }
        }
        for (n, state) in states.into_iter().enumerate() {
            *state = [
                _mm_extract_epi32::<3>(abcd[n]).cast_unsigned(),
                _mm_extract_epi32::<2>(abcd[n]).cast_unsigned(),
                _mm_extract_epi32::<1>(abcd[n]).cast_unsigned(),
                _mm_extract_epi32::<0>(abcd[n]).cast_unsigned(),
                _mm_extract_epi32::<3>(e[n]).cast_unsigned(),
            ];
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load_abcd(state: &State) -> __m128i {
        let [a, b, c, d, _] = state.map(u32::cast_signed);
        _mm_set_epi32(a, b, c, d)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load_e(state: &State) -> __m128i {
        _mm_set_epi32(state[4].cast_signed(), 0, 0, 0)
    }

    impl Lane {
        #[inline]
        #[target_feature(enable = "sse2,ssse3")]
        fn begin(abcd: __m128i, block: &Block) -> Self {
            let reversed = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let (quarters, _) = block.as_chunks::<16>();
            let mut schedule = [_mm_setzero_si128(); 4];
            for n in 0..4 {
                // SAFETY: the sixteen bytes of a quarter are read, wherever they lie.
                let bytes = unsafe { _mm_loadu_si128(quarters[n].as_ptr().cast()) };
                schedule[n] = _mm_shuffle_epi8(bytes, reversed);
            }
            Self {
                abcd,
                before: abcd,
                schedule,
            }
        }

        /// The first four rounds of a block, whose E is given.
        #[inline]
        #[target_feature(enable = "sha,sse2")]
        fn first_rounds(&mut self, e: __m128i) {
            let e = _mm_add_epi32(e, self.schedule[0]);
            self.abcd = _mm_sha1rnds4_epu32::<0>(self.abcd, e);
        }

        /// Four later rounds.
        #[inline]
        #[target_feature(enable = "sha,sse2")]
        fn four_rounds<const F: i32, const GROUP: usize>(&mut self) {
            if GROUP >= 4 {
                self.extend::<GROUP>();
            }
            let e = _mm_sha1nexte_epu32(self.before, self.schedule[GROUP % 4]);
            self.before = self.abcd;
            self.abcd = _mm_sha1rnds4_epu32::<F>(self.abcd, e);
        }

        /// The next four words of the schedule, in place of those of 16 words ago.
        #[inline]
        #[target_feature(enable = "sha,sse2")]
        fn extend<const GROUP: usize>(&mut self) {
            // No closure: code in one might not be compiled for these instructions, and then is called for each vector.
            let (old, second) = (self.schedule[GROUP % 4], self.schedule[(GROUP + 1) % 4]);
            let (third, last) = (
                self.schedule[(GROUP + 2) % 4],
                self.schedule[(GROUP + 3) % 4],
            );
            let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(old, second), third);
            self.schedule[GROUP % 4] = _mm_sha1msg2_epu32(mixed, last);
        }
    }
}

/// With FEAT_SHA1: Arm Architecture Reference Manual, SHA1C, SHA1P, SHA1M, SHA1H, SHA1SU0 and SHA1SU1.
#[cfg(target_arch = "aarch64")]
mod native {
    use std::arch::aarch64::{
        uint32x4_t, vaddq_u32, vdupq_n_u32, vgetq_lane_u32, vld1q_u8, vld1q_u32,
        vreinterpretq_u32_u8, vrev32q_u8, vsha1cq_u32, vsha1h_u32, vsha1mq_u32, vsha1pq_u32,
        vsha1su0q_u32, vsha1su1q_u32, vst1q_u32,
    };
    use std::arch::is_aarch64_feature_detected;

    use super::{Block, State};

    /// The constants of the rounds, FIPS 180-4, section 4.2.1.
    const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

    pub(super) fn is_available() -> bool {
        // The name of FEAT_SHA1 and FEAT_SHA256 together.
        is_aarch64_feature_detected!("sha2")
    }

    /// One stream in registers.
    #[derive(Clone, Copy)]
    struct Lane {
        abcd: uint32x4_t,
        e: u32,
        /// The last 16 words of the message schedule, four to a vector, as a ring.
        schedule: [uint32x4_t; 4],
    }

    /// Over as many blocks of each as the shortest list has.
    #[target_feature(enable = "neon,sha2")]
    pub(super) fn compress_many<const N: usize>(states: [&mut State; N], blocks: [&[Block]; N]) {
        // SAFETY: the first four of five words are read.
        let load = |state: &&mut State| unsafe { vld1q_u32(state.as_ptr()) };
        let mut abcd = states.each_ref().map(load);
        let mut e = states.each_ref().map(|state| state[4]);
        let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
        for at in 0..count {
            let mut lanes = [Lane::begin(abcd[0], e[0], &blocks[0][at]); N];
            for n in 1..N {
                lanes[n] = Lane::begin(abcd[n], e[n], &blocks[n][at]);
            }
            rounds!(lanes, 0: 0 1 2 3 4, 1: 5 6 7 8 9, 2: 10 11 12 13 14, 3: 15 16 17 18 19);
            for n in 0..N {
                e[n] = e[n].wrapping_add(lanes[n].e);
                abcd[n] = vaddq_u32(abcd[n], lanes[n].abcd);
            }
        }
        for (n, state) in states.into_iter().enumerate() {
            // SAFETY: the first four of five words are written.
            unsafe { vst1q_u32(state.as_mut_ptr(), abcd[n]) };
            state[4] = e[n];
        }
    }

    impl Lane {
        #[inline]
        #[target_feature(enable = "neon")]
        fn begin(abcd: uint32x4_t, e: u32, block: &Block) -> Self {
            let (quarters, _) = block.as_chunks::<16>();
            let mut schedule = [vdupq_n_u32(0); 4];
            for n in 0..4 {
                // SAFETY: the sixteen bytes of a quarter are read.
                let bytes = unsafe { vld1q_u8(quarters[n].as_ptr()) };
                schedule[n] = vreinterpretq_u32_u8(vrev32q_u8(bytes));
            }
            Self { abcd, e, schedule }
        }

        /// Four rounds.
        #[inline]
        #[target_feature(enable = "neon,sha2")]
        fn four_rounds<const F: usize, const GROUP: usize>(&mut self) {
            if GROUP >= 4 {
                self.extend::<GROUP>();
            }
            let words = vaddq_u32(self.schedule[GROUP % 4], vdupq_n_u32(K[F]));
            let next = vsha1h_u32(vgetq_lane_u32::<0>(self.abcd));
            self.abcd = match F {
                0 => vsha1cq_u32(self.abcd, self.e, words),
                2 => vsha1mq_u32(self.abcd, self.e, words),
                _ => vsha1pq_u32(self.abcd, self.e, words),
            };
            self.e = next;
        }

        /// The next four words of the schedule, in place of those of 16 words ago.
        #[inline]
        #[target_feature(enable = "neon,sha2")]
        fn extend<const GROUP: usize>(&mut self) {
            // No closure: code in one might not be compiled for these instructions, and then is called for each vector.
            let (old, second) = (self.schedule[GROUP % 4], self.schedule[(GROUP + 1) % 4]);
            let (third, last) = (
                self.schedule[(GROUP + 2) % 4],
                self.schedule[(GROUP + 3) % 4],
            );
            self.schedule[GROUP % 4] = vsha1su1q_u32(vsha1su0q_u32(old, second, third), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest, Sha1};

    fn bytes(len: usize, salt: u8) -> Vec<u8> {
        (0..len).map(|at| (at * 31 / 7) as u8 ^ salt).collect()
    }

    fn known(message: &[u8]) -> [u8; 20] {
        Sha1::digest(message).into()
    }

    #[test]
    fn the_hashes_are_those_of_the_standard() {
        let million = vec![b'a'; 1_000_000];
        let found = sha1_of_each([b"abc", &million[..]]);
        let hex = found.map(|hash| hash.map(|byte| format!("{byte:02x}")).concat());
        assert_eq!(hex[0], "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex[1], "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn every_length_around_the_ends_of_blocks_pads_alike() {
        for a in 0..=3 * BLOCK + 1 {
            for b in [a, 0, 1, 55, 56, 63, 64, 65, 119, 120, 128] {
                let (one, two) = (bytes(a, 1), bytes(b, 2));
                let wanted = [known(&one), known(&two)];
                assert_eq!(sha1_of_each([&one[..], &two]), wanted, "{a} and {b} bytes");
            }
        }
    }

    /// What the processor does for us against what the crate does, block by block.
    fn at_once_is_one_after_the_other<const N: usize>() {
        let messages: [Vec<u8>; N] = std::array::from_fn(|n| bytes(40 * BLOCK, n as u8));
        let blocks = messages.each_ref().map(|message| message.as_chunks().0);
        let mut wanted = [INITIAL; N];
        for (state, blocks) in wanted.iter_mut().zip(blocks) {
            compress(state, blocks);
        }
        let mut found = [INITIAL; N];
        compress_many(found.each_mut(), blocks);
        assert_eq!(found, wanted, "{N} streams");
    }

    #[test]
    fn streams_at_once_do_not_depend_on_one_another() {
        at_once_is_one_after_the_other::<1>();
        at_once_is_one_after_the_other::<2>();
        at_once_is_one_after_the_other::<3>();
        at_once_is_one_after_the_other::<4>();
    }

    proptest! {
        #[test]
        fn messages_in_chunks_of_any_lengths_give_their_hashes(
            messages in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..2_000)),
            cuts in prop::collection::vec(prop::array::uniform4(0usize..300), 0..20),
        ) {
            let mut streams = Streams::new();
            let mut rest = messages.each_ref().map(|message| &message[..]);
            for cut in cuts {
                let now = std::array::from_fn(|n| {
                    let now;
                    (now, rest[n]) = rest[n].split_at(cut[n].min(rest[n].len()));
                    now
                });
                streams.update(now);
            }
            streams.update(rest);
            let wanted = messages.each_ref().map(|message| known(message));
            prop_assert_eq!(streams.finish(), wanted);
        }
    }
}
